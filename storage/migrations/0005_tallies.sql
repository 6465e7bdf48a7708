-- migrate:up
-- How much was said, without counting it anew each time. Months that are over are counted once, by the daemon, and the
-- sums kept; the open month is counted when somebody asks. Recording does nothing for it: only a month that has been
-- counted gets a trigger, which notes that something in it was changed after all (an import, a revoke, an erasure).

CREATE TABLE sidestep.tallies (
    tenant_id bigint NOT NULL,
    chat_id bigint NOT NULL,
    day date NOT NULL,
    direction text NOT NULL,
    author text NOT NULL,
    is_group boolean NOT NULL,
    type text NOT NULL,
    command text NOT NULL,
    messages bigint NOT NULL,
    media bigint NOT NULL,
    PRIMARY KEY (tenant_id, chat_id, day, direction, author, is_group, type, command)
);
COMMENT ON TABLE sidestep.tallies IS 'How many messages of each kind: of all chats together by day, of each chat by month. Only for the months in tallied_months.';
COMMENT ON COLUMN sidestep.tallies.tenant_id IS 'Whose.';
COMMENT ON COLUMN sidestep.tallies.chat_id IS 'The chat; 0: all of them.';
COMMENT ON COLUMN sidestep.tallies.day IS 'The day, in UTC, by the messages'' ids; of one chat: the month''s first.';
COMMENT ON COLUMN sidestep.tallies.direction IS 'As in messages.';
COMMENT ON COLUMN sidestep.tallies.author IS 'As in messages.';
COMMENT ON COLUMN sidestep.tallies.is_group IS 'As in messages.';
COMMENT ON COLUMN sidestep.tallies.type IS 'As in messages.';
COMMENT ON COLUMN sidestep.tallies.command IS 'As in messages; empty: none.';
COMMENT ON COLUMN sidestep.tallies.messages IS 'How many were said: without changes, what was deleted, and what the bot never said.';
COMMENT ON COLUMN sidestep.tallies.media IS 'How many of them have a file.';

CREATE TABLE sidestep.tallied_months (
    tenant_id bigint NOT NULL,
    first_id bigint NOT NULL,
    counted_at timestamptz NOT NULL,
    changed boolean NOT NULL DEFAULT false,
    PRIMARY KEY (tenant_id, first_id)
);
COMMENT ON TABLE sidestep.tallied_months IS 'Which months'' sums stand in tallies.';
COMMENT ON COLUMN sidestep.tallied_months.tenant_id IS 'Whose.';
COMMENT ON COLUMN sidestep.tallied_months.first_id IS 'The smallest id of the month.';
COMMENT ON COLUMN sidestep.tallied_months.counted_at IS 'When.';
COMMENT ON COLUMN sidestep.tallied_months.changed IS 'Something in it has changed since: the sums are not to be used, and it is counted again.';

CREATE FUNCTION sidestep.id_time(p_id bigint) RETURNS timestamptz LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN to_timestamp(((p_id >> 20) + 1577836800000) / 1000.0);
COMMENT ON FUNCTION sidestep.id_time IS 'The moment that a message id tells.';

CREATE FUNCTION sidestep.note_change() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE sidestep.tallied_months SET changed = true
     WHERE tenant_id = coalesce(NEW.tenant_id, OLD.tenant_id) AND first_id = TG_ARGV[0]::bigint AND NOT changed;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION sidestep.note_change IS 'Notes that a month that was counted is no longer what it was, whoever changed it. A trigger of such months only.';

CREATE FUNCTION sidestep.count_messages(p_part regclass, p_tenant bigint, p_chat bigint, p_from bigint, p_end bigint, p_by text)
RETURNS TABLE (chat_id bigint, day date, direction text, author text, is_group boolean, type text, command text, messages bigint, media bigint)
LANGUAGE plpgsql STABLE AS $$
BEGIN
    -- p_chat null: all. Bot's messages have a row in the outbox, others have none.
    RETURN QUERY EXECUTE format($count$
        SELECT %2$s, %3$s, m.direction, m.author, m.is_group, m.type, coalesce(m.command, ''), count(*),
               count(*) FILTER (WHERE m.media_url IS NOT NULL OR m.type IN ('image', 'video', 'audio', 'document', 'sticker'))
          FROM %1$s m
         WHERE m.tenant_id = $1 AND m.id >= $3 AND m.id < $4 AND m.deleted_at IS NULL AND NOT sidestep.is_change(m.type)
           AND ($2::bigint IS NULL OR m.chat_id = $2)
           AND NOT EXISTS (SELECT FROM sidestep.outbox o WHERE o.tenant_id = $1 AND o.chat_id = m.chat_id AND o.id = m.id
                              AND o.sent_at IS NULL AND o.status = 'cancelled')
         GROUP BY 1, 2, 3, 4, 5, 6, 7$count$,
        p_part, CASE WHEN p_by = 'chat' THEN 'm.chat_id' ELSE '0::bigint' END,
        CASE p_by WHEN 'day' THEN '(sidestep.id_time(m.id) AT TIME ZONE ''UTC'')::date' ELSE '(sidestep.id_time($3) AT TIME ZONE ''UTC'')::date' END)
        USING p_tenant, p_chat, p_from, p_end;
END $$;
COMMENT ON FUNCTION sidestep.count_messages IS 'Counts what was said in a span of one month, each kind for itself: by chat, by day, or (anything else) all as of the span''s beginning.';

CREATE FUNCTION sidestep.tally_month(p_tenant bigint, p_part regclass, p_first bigint, p_end bigint, p_now timestamptz) RETURNS boolean
LANGUAGE plpgsql SET lock_timeout = '200ms' AS $$
BEGIN
    -- Nobody writes in this month while it is counted: whoever does so after us fires the trigger, whoever did so
    -- before us has committed. Nobody waits long: a month that is busy is left for the next time.
    EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', p_part);
    IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = p_part AND tgname = 'note_change') THEN
        EXECUTE format('CREATE TRIGGER note_change AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION sidestep.note_change(%s)',
                       p_part, p_first);
    END IF;
    DELETE FROM sidestep.tallies
     WHERE tenant_id = p_tenant AND day >= (sidestep.id_time(p_first) AT TIME ZONE 'UTC')::date AND day < (sidestep.id_time(p_end) AT TIME ZONE 'UTC')::date;
    INSERT INTO sidestep.tallies (tenant_id, chat_id, day, direction, author, is_group, type, command, messages, media)
    SELECT p_tenant, c.* FROM sidestep.count_messages(p_part, p_tenant, NULL, p_first, p_end, 'chat') c
     UNION ALL
    SELECT p_tenant, c.* FROM sidestep.count_messages(p_part, p_tenant, NULL, p_first, p_end, 'day') c;
    INSERT INTO sidestep.tallied_months AS t (tenant_id, first_id, counted_at) VALUES (p_tenant, p_first, p_now)
    ON CONFLICT (tenant_id, first_id) DO UPDATE SET counted_at = excluded.counted_at, changed = false;
    RETURN true;
EXCEPTION WHEN lock_not_available THEN
    RETURN false;
END $$;
COMMENT ON FUNCTION sidestep.tally_month IS 'Counts one month of one tenant and keeps the sums; false: somebody is writing in it just now.';

CREATE FUNCTION sidestep.untallied_months(p_tenant bigint, p_now timestamptz) RETURNS TABLE (part regclass, first_id bigint, end_id bigint)
LANGUAGE sql STABLE AS $$
    SELECT m.* FROM sidestep.message_months() m
     WHERE m.end_id <= sidestep.id_floor(p_now - interval '1 day') -- clocks differ, and a chat's ids may run ahead of them
       AND NOT EXISTS (SELECT FROM sidestep.tallied_months t JOIN pg_trigger g ON g.tgrelid = m.part AND g.tgname = 'note_change'
                        WHERE t.tenant_id = p_tenant AND t.first_id = m.first_id AND NOT t.changed)
       -- What is still to be sent is not said yet, and may never be.
       AND NOT EXISTS (SELECT FROM sidestep.outbox o WHERE o.tenant_id = p_tenant AND o.due_at IS NOT NULL AND o.id >= m.first_id AND o.id < m.end_id)
$$;
COMMENT ON FUNCTION sidestep.untallied_months IS 'The months that are over, and whose sums do not stand yet or no longer.';

CREATE FUNCTION sidestep.message_stats(p_tenant bigint, p_chat bigint, p_from timestamptz, p_to timestamptz, p_by text)
RETURNS TABLE (day date, direction text, author text, is_group boolean, type text, command text, messages bigint, media bigint)
LANGUAGE plpgsql STABLE ROWS 50 AS $$
#variable_conflict use_column
DECLARE
    v_from bigint := coalesce(sidestep.id_floor(p_from), '-9223372036854775808'::bigint);
    v_end bigint := coalesce(sidestep.id_floor(p_to), 9223372036854775807);
    v_month record;
BEGIN
    FOR v_month IN
        SELECT m.*, (sidestep.id_time(m.first_id) AT TIME ZONE 'UTC')::date AS first_day, (sidestep.id_time(m.end_id) AT TIME ZONE 'UTC')::date AS end_day,
               greatest(m.first_id, v_from) AS from_id, least(m.end_id, v_end) AS to_id,
               EXISTS (SELECT FROM sidestep.tallied_months t JOIN pg_trigger g ON g.tgrelid = m.part AND g.tgname = 'note_change'
                        WHERE t.tenant_id = p_tenant AND t.first_id = m.first_id AND NOT t.changed) AS tallied
          FROM sidestep.message_months() m WHERE m.first_id < v_end AND m.end_id > v_from
    LOOP
        -- All chats' sums are by day, one chat's by month; what they cannot answer is counted.
        IF v_month.tallied AND (v_month.from_id, v_month.to_id) = (v_month.first_id, v_month.end_id) AND (p_chat IS NULL OR p_by <> 'day') THEN
            RETURN QUERY SELECT t.day, t.direction, t.author, t.is_group, t.type, t.command, t.messages, t.media FROM sidestep.tallies t
                WHERE t.tenant_id = p_tenant AND t.chat_id = coalesce(p_chat, 0) AND t.day >= v_month.first_day AND t.day < v_month.end_day;
        ELSE
            RETURN QUERY SELECT c.day, c.direction, c.author, c.is_group, c.type, c.command, c.messages, c.media
                FROM sidestep.count_messages(v_month.part, p_tenant, p_chat, v_month.from_id, v_month.to_id, p_by) c;
        END IF;
    END LOOP;
END $$;
COMMENT ON FUNCTION sidestep.message_stats IS 'How much was said, in one chat or (null) in all, within a span of time, each kind for itself; p_by: day, or anything else where days do not matter.';
