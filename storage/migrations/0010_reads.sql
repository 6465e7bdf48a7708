-- migrate:up
-- What reading needs beside the keys: indexes of their own for a few questions, the index of words for search, and sums.
-- None of the indexes is in the way of an update that is HOT; what a message without media, quote or command does not need
-- costs it nothing.

-- Few messages have one of these.
CREATE INDEX messages_media ON sidestep.messages (tenant_id, chat_id, id)
    WHERE media_url IS NOT NULL OR type IN ('image', 'video', 'audio', 'document', 'sticker');
CREATE INDEX messages_quote ON sidestep.messages (tenant_id, chat_id, reply_to) WHERE reply_to IS NOT NULL;
CREATE INDEX messages_command ON sidestep.messages (tenant_id, id) WHERE command IS NOT NULL;
CREATE INDEX chats_contact ON sidestep.chats (tenant_id, contact_id) WHERE contact_id IS NOT NULL;
CREATE INDEX outbox_failed ON sidestep.outbox (tenant_id, id) WHERE failed_at IS NOT NULL;
-- The day, not the moment: its index is touched once a day, so that a chat's row stays HOT.
CREATE INDEX chat_state_active ON sidestep.chat_state (tenant_id, active_day);

-- Words --------------------------------------------------------------------------------------------------
-- No language is assumed: no stems, no stop words. Case is folded, and accents, if the extension can be had; a
-- database's owner may create it, where the server has it.

CREATE TEXT SEARCH CONFIGURATION sidestep.words (COPY = pg_catalog.simple);
COMMENT ON TEXT SEARCH CONFIGURATION sidestep.words IS 'Words of any language, as they are written; without accents where the extension unaccent is.';

DO $$
DECLARE
    v_schema name;
BEGIN
    BEGIN
        CREATE EXTENSION IF NOT EXISTS unaccent;
    EXCEPTION WHEN insufficient_privilege OR feature_not_supported OR undefined_file OR invalid_schema_name THEN
        RAISE WARNING 'search will tell accents apart: the extension unaccent cannot be created here (%)', SQLERRM;
    END;
    SELECT n.nspname INTO v_schema FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'unaccent';
    IF FOUND THEN
        EXECUTE format('ALTER TEXT SEARCH CONFIGURATION sidestep.words ALTER MAPPING FOR asciiword, word, numword, asciihword, hword, '
                       'numhword, hword_asciipart, hword_part, hword_numpart WITH %I.unaccent, pg_catalog.simple', v_schema);
    END IF;
END $$;

CREATE FUNCTION sidestep.folds_accents() RETURNS boolean LANGUAGE sql STABLE
RETURN EXISTS (SELECT FROM pg_ts_config_map m JOIN pg_ts_dict d ON d.oid = m.mapdict
                WHERE m.mapcfg = 'sidestep.words'::regconfig AND d.dictname = 'unaccent');
COMMENT ON FUNCTION sidestep.folds_accents IS 'Whether search finds "acao" in "ação": false where the extension unaccent could not be had.';

CREATE FUNCTION sidestep.spaced(p_text text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN octet_length(p_text) = char_length(p_text) THEN p_text ELSE regexp_replace(p_text,
    '([\u0E00-\u0EFF\u1000-\u109F\u1780-\u17FF\u3040-\u30FF\u3400-\u4DBF\u4E00-\u9FFF\uF900-\uFAFF\U00020000-\U0003FFFF'
    '\u0080-\u00A9\u00AB-\u00B4\u00B6-\u00B9\u00BB-\u00BF\u00D7\u00F7\u060C\u061B\u061F\u0964\u0965\u2000-\u2BFF\u3000-\u303F\U0001F000-\U0001FAFF])',
    E'\x1f\\1\x1f', 'g') END;
COMMENT ON FUNCTION sidestep.spaced IS 'The text with a separator around each sign that is no part of a longer word, for excerpts.';

CREATE FUNCTION sidestep.searchable(p_text text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    -- Most texts are ASCII, or have letters of Europe beside, and need none of what follows.
    WHEN octet_length(p_text) = char_length(p_text) THEN p_text
    WHEN p_text !~ '[^\u0001-\u007F\u00C0-\u00D6\u00D8-\u00F6\u00F8-\u024F\u0386\u0388-\u03FF\u0400-\u0481\u048A-\u052F]' THEN p_text
    -- Marks over letters go (a precomposed letter's accent is unaccent's to take). Scripts that do not part their words
    -- are found by phrases of their signs. And where the server knows only ASCII's signs from letters, "¿" must not stick to a word.
    ELSE regexp_replace(regexp_replace(normalize(p_text, NFKC),
        '[\u0300-\u036F\u0591-\u05BD\u05BF\u05C1\u05C2\u05C4\u05C5\u05C7\u0610-\u061A\u064B-\u065F\u0670\uFE00-\uFE0F]+', '', 'g'),
        '([\u0E00-\u0EFF\u1000-\u109F\u1780-\u17FF\u3040-\u30FF\u3400-\u4DBF\u4E00-\u9FFF\uF900-\uFAFF\U00020000-\U0003FFFF])'
        '|[\u0080-\u00A9\u00AB-\u00B4\u00B6-\u00B9\u00BB-\u00BF\u00D7\u00F7\u060C\u061B\u061F\u0964\u0965\u2000-\u2BFF\u3000-\u303F\U0001F000-\U0001FAFF]',
        E'\x1f\\1\x1f', 'g') END;
COMMENT ON FUNCTION sidestep.searchable IS 'What of a text is searched: its words, parted.';

CREATE FUNCTION sidestep.search_vector(p_tenant bigint, p_chat bigint, p_text text) RETURNS tsvector LANGUAGE sql IMMUTABLE PARALLEL SAFE
-- Words are folded to small letters, so that no word is a T or C; and a vector has its limits, which no message may meet.
RETURN array_to_tsvector(ARRAY['T' || p_tenant::text, 'C' || p_chat::text])
       || to_tsvector('sidestep.words', sidestep.searchable("left"(p_text, 65536)));
COMMENT ON FUNCTION sidestep.search_vector IS 'A message''s words, with its tenant and its chat among them: the index itself keeps them apart.';

CREATE INDEX messages_words ON sidestep.messages USING gin (sidestep.search_vector(tenant_id, chat_id, text)) WHERE text IS NOT NULL;

CREATE FUNCTION sidestep.search_query(p_text text) RETURNS tsquery LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    v_found text[];
    v_term tsquery;
    v_last tsquery;
    v_all tsquery := ''::tsquery;
    v_either boolean := false;
    v_wanted boolean := false;
BEGIN
    FOR v_found IN SELECT regexp_matches("left"(p_text, 500), '(-?)(?:"([^"]*)"?|([^\s"]+))', 'g') LOOP
        IF v_found[3] = 'OR' THEN
            v_either := v_last IS NOT NULL;
            CONTINUE;
        END IF;
        v_term := phraseto_tsquery('sidestep.words', sidestep.searchable(coalesce(v_found[2], v_found[3])));
        CONTINUE WHEN numnode(v_term) = 0;
        IF v_found[3] LIKE '%*' THEN
            v_term := (v_term::text || ':*')::tsquery;
        END IF;
        IF v_found[1] = '-' THEN
            v_all := v_all && !! v_term;
        ELSIF v_either THEN
            v_last := v_last || v_term;
        ELSE
            v_all := v_all && coalesce(v_last, ''::tsquery);
            v_last := v_term;
        END IF;
        v_wanted := v_wanted OR v_found[1] = '';
        v_either := false;
    END LOOP;
    RETURN CASE WHEN v_wanted THEN v_all && v_last END;
END $$;
COMMENT ON FUNCTION sidestep.search_query IS 'What people type: words (all of them), "a phrase", -without, one OR other, begin*. Null: nothing is asked for.';

CREATE FUNCTION sidestep.newest(p_tenant bigint, p_chat bigint, p_from bigint, p_before bigint, p_count int) RETURNS bigint
-- Not as search has it, which asks: an index is read backwards here.
LANGUAGE sql STABLE SET enable_indexscan = on SET enable_indexonlyscan = on AS $$
    SELECT min(id) FROM (
        (SELECT m.id FROM sidestep.messages m
          WHERE p_chat IS NULL AND m.tenant_id = p_tenant AND m.id >= p_from AND m.id < p_before ORDER BY m.id DESC LIMIT p_count)
        UNION ALL
        (SELECT m.id FROM sidestep.messages m
          WHERE m.tenant_id = p_tenant AND m.chat_id = p_chat AND m.id >= p_from AND m.id < p_before ORDER BY m.id DESC LIMIT p_count)) n
$$;
COMMENT ON FUNCTION sidestep.newest IS 'The id of the first of the newest messages, so many, in a chat or (null) in all of a tenant''s; null: there is none.';

CREATE FUNCTION sidestep.search(p_tenant bigint, p_chat bigint, p_text text, p_without bigint[], p_from bigint, p_before bigint, p_limit int, p_newest int DEFAULT NULL)
RETURNS TABLE (chat_id bigint, id bigint, marked text) LANGUAGE plpgsql STABLE ROWS 50
    -- First the newest messages, each by itself: a word that every twentieth has fills a page there, and by the index of words
    -- every place that it has in a month would be read. Then a month at a time, newest first, by that index: one query over
    -- all of them takes seconds for a rare word, when the planner hopes to meet it soon on the way back in time.
    SET enable_seqscan = off SET enable_indexscan = off SET enable_indexonlyscan = off AS $$
DECLARE
    v_words tsquery := sidestep.search_query(p_text);
    v_query tsquery := v_words && quote_literal(coalesce('C' || p_chat, 'T' || p_tenant))::tsquery;
    v_first bigint;
    v_left int := p_limit;
    v_found int;
    v_place record;
BEGIN
    IF v_query IS NULL THEN
        RETURN;
    END IF;
    v_first := coalesce(sidestep.newest(p_tenant, p_chat, p_from, p_before, coalesce(p_newest, 1000)), p_before);
    FOR v_place IN
        SELECT '(SELECT * FROM sidestep.messages n WHERE n.tenant_id = $3 AND n.id < $4 AND n.id >= $5'
               || coalesce(' AND n.chat_id = ' || p_chat, '') || ' OFFSET 0)' AS source, v_first AS from_id, p_before AS before_id, NULL::bigint AS month
         WHERE v_first < p_before
         UNION ALL
        SELECT m.part::text, p_from, v_first, m.first_id FROM sidestep.message_months() m WHERE m.first_id < v_first AND m.end_id > p_from
         ORDER BY month DESC NULLS FIRST
    LOOP
        -- The "+ 0" keep every other index out. What was never said is no find; it is looked at in the order of the ids.
        RETURN QUERY EXECUTE format($place$
            SELECT x.chat_id, x.id, ts_headline('sidestep.words', sidestep.spaced(translate("left"(x.text, 65536), E'\x02\x03\x1f', '')), $2,
                                                E'HighlightAll=true, StartSel="\x02", StopSel="\x03"')
              FROM (SELECT m.chat_id, m.id, m.text, m.author FROM %s m
                     WHERE sidestep.search_vector(m.tenant_id, m.chat_id, m.text) @@ $1 AND m.text IS NOT NULL
                       AND m.tenant_id + 0 = $3 AND m.id + 0 < $4 AND m.id + 0 >= $5
                       AND m.deleted_at IS NULL AND NOT sidestep.is_change(m.type) AND m.command IS NULL AND m.chat_id + 0 <> ALL ($7)
                     ORDER BY m.id DESC) x
             WHERE x.author <> 'bot' OR coalesce((SELECT o.status FROM sidestep.outbox o
                     WHERE o.tenant_id = $3 AND o.chat_id = x.chat_id AND o.id = x.id), '') <> 'cancelled'
             LIMIT $6$place$, v_place.source)
            USING v_query, v_words, p_tenant, v_place.before_id, v_place.from_id, v_left, p_without;
        GET DIAGNOSTICS v_found = ROW_COUNT;
        v_left := v_left - v_found;
        EXIT WHEN v_left <= 0;
    END LOOP;
END $$;
COMMENT ON FUNCTION sidestep.search IS 'Messages with these words, newest first, in one chat or (null) in all of a tenant''s but some: as they read now, without what was deleted, and without commands. In what is marked the words stand between \x02 and \x03. So many of the newest (null: a thousand) are looked at one by one before the index of words is asked.';

-- Sums ---------------------------------------------------------------------------------------------------
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

-- The store itself ---------------------------------------------------------------------------------------

CREATE FUNCTION sidestep.slow_statements(p_limit int) RETURNS TABLE (query text, calls bigint, mean_ms float8, total_ms float8, row_count bigint)
LANGUAGE plpgsql AS $$
DECLARE
    v_schema name;
BEGIN
    SELECT n.nspname INTO v_schema FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'pg_stat_statements';
    IF v_schema IS NULL THEN
        CREATE EXTENSION pg_stat_statements;
        SELECT n.nspname INTO v_schema FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'pg_stat_statements';
    END IF;
    RETURN QUERY EXECUTE format(
        'SELECT s.query, s.calls, s.mean_exec_time, s.total_exec_time, s.rows FROM %I.pg_stat_statements s
          WHERE s.dbid = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()) AND s.query ILIKE ''%%sidestep.%%''
          ORDER BY s.mean_exec_time DESC LIMIT $1', v_schema) USING p_limit;
END $$;
COMMENT ON FUNCTION sidestep.slow_statements IS 'Our statements, those that take longest first, from pg_stat_statements; creates the extension where it may. Raises where the server has not loaded it.';
