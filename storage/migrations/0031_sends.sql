-- migrate:up
-- Claims of many chats in one commit, and what the platform has taken.

DROP FUNCTION sidestep.claim(bigint, bigint, bigint, timestamptz, interval, timestamptz);

CREATE FUNCTION sidestep.claim(p_tenant bigint, p_chats bigint[], p_ids bigint[], p_now timestamptz[], p_lease interval, p_oldest timestamptz[])
RETURNS TABLE (nth int, claim text) LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan ROWS 10 AS $$
DECLARE
    v_free bigint[];
    v_epoch bigint[];
    v_silent boolean[];
    v_claimed bigint[];
BEGIN
    -- The chats before the rows, in the order in which a takeover locks them, and held to the end of the transaction: a
    -- takeover comes before this look or after our commit. One alone is waited for.
    IF cardinality(p_chats) = 1 THEN
        PERFORM FROM sidestep.chat_state s WHERE s.tenant_id = p_tenant AND s.chat_id = p_chats[1] FOR SHARE;
    END IF;
    SELECT array_agg(s.chat_id), array_agg(s.epoch), array_agg(s.is_paused OR s.is_excluded OR s.opted_out_at IS NOT NULL)
      INTO v_free, v_epoch, v_silent
      FROM (SELECT c.* FROM sidestep.chat_state c WHERE c.tenant_id = p_tenant AND c.chat_id = ANY (p_chats)
             ORDER BY c.chat_id FOR SHARE SKIP LOCKED) s;
    IF EXISTS (SELECT FROM sidestep.processing_state g WHERE g.tenant_id = p_tenant AND g.is_paused) THEN
        v_silent := array_fill(true, ARRAY[coalesce(cardinality(v_free), 0)]);
    END IF;
    -- As may_speak tells: for a command's answer only the epoch counts, and what has no epoch is not fenced.
    UPDATE sidestep.outbox o
       SET status = 'cancelled', due_at = NULL,
           error = CASE WHEN o.epoch <> s.epoch OR (s.silent AND o.epoch IS NOT NULL AND NOT o.is_command_answer)
                        THEN 'the bot may no longer speak in this chat' ELSE 'too old to be of use' END
      FROM unnest(p_chats, p_ids, p_oldest) i (chat, id, oldest) JOIN unnest(v_free, v_epoch, v_silent) s (chat, epoch, silent) ON s.chat = i.chat
     WHERE o.tenant_id = p_tenant AND o.chat_id = i.chat AND o.id = i.id AND o.status = 'queued'
       AND (o.epoch <> s.epoch OR (s.silent AND o.epoch IS NOT NULL AND NOT o.is_command_answer) OR o.queued_at < i.oldest);
    WITH taken AS (
        UPDATE sidestep.outbox o SET status = 'sending', due_at = i.now + p_lease, attempts = o.attempts + 1
          FROM unnest(p_chats, p_ids, p_now) i (chat, id, now)
         WHERE i.chat = ANY (v_free) AND o.tenant_id = p_tenant AND o.chat_id = i.chat AND o.id = i.id AND o.status = 'queued'
        RETURNING o.chat_id)
    SELECT array_agg(t.chat_id) INTO v_claimed FROM taken t;
    RETURN QUERY
    SELECT i.o::int, CASE WHEN i.chat = ANY (v_claimed) THEN 'claimed' WHEN o.status = 'cancelled' THEN 'cancelled' ELSE 'gone' END
      FROM unnest(p_chats, p_ids) WITH ORDINALITY i (chat, id, o)
      LEFT JOIN sidestep.outbox o ON o.tenant_id = p_tenant AND o.chat_id = i.chat AND o.id = i.id
     WHERE i.chat = ANY (v_free) OR cardinality(p_chats) = 1;
END $$;
COMMENT ON FUNCTION sidestep.claim IS 'Takes queued rows for sending, one a chat: claimed; cancelled, because it may no longer be said; or gone, because someone else has settled it. A row whose chat somebody else holds is left out, unless it is alone.';

CREATE FUNCTION sidestep.mark_all_sent(p_tenant bigint, p_chats bigint[], p_ids bigint[], p_external_ids text[], p_at timestamptz[], p_overlapped boolean[])
RETURNS TABLE (nth int, status text) LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan ROWS 10 AS $$
#variable_conflict use_column
DECLARE
    v_early record;
BEGIN
    -- A receipt that comes at this very moment either finds the key below or is found among the early ones.
    PERFORM pg_advisory_xact_lock(x.key) FROM (SELECT DISTINCT hashtextextended(e, p_tenant) AS key FROM unnest(p_external_ids) e ORDER BY 1) x;
    -- Held where they are until the commit. One may have been merged while the platform took its time.
    IF cardinality(p_chats) <> (SELECT count(*) FROM (SELECT s.chat_id FROM sidestep.chat_state s WHERE s.tenant_id = p_tenant AND s.chat_id = ANY (p_chats)
                                                       ORDER BY s.chat_id FOR KEY SHARE) held) THEN
        p_chats := ARRAY(SELECT sidestep.hold_chat(p_tenant, c) FROM unnest(p_chats) WITH ORDINALITY i (c, o) ORDER BY o);
    END IF;
    -- Forward only, as sidestep.forward does. What the platform says beats what was inferred.
    UPDATE sidestep.outbox o
       SET status = CASE WHEN sidestep.rank(o.status) = 0 THEN 'sent' ELSE o.status END,
           due_at = CASE WHEN sidestep.rank(o.status) > 0 THEN o.due_at END,
           failed_at = CASE WHEN sidestep.rank(o.status) > 0 THEN o.failed_at END,
           error = CASE WHEN sidestep.rank(o.status) > 0 THEN o.error END,
           sent_at = CASE WHEN sidestep.rank(o.status) > 0 THEN o.sent_at ELSE coalesce(o.sent_at, i.at) END,
           external_id = CASE WHEN o.inferred THEN i.ext ELSE coalesce(o.external_id, i.ext) END,
           inferred = false, overlapped = o.overlapped OR i.overlapped
      FROM unnest(p_chats, p_ids, p_external_ids, p_at, p_overlapped) i (chat, id, ext, at, overlapped)
     WHERE o.tenant_id = p_tenant AND o.chat_id = i.chat AND o.id = i.id;
    INSERT INTO sidestep.message_keys (tenant_id, chat_id, external_id, from_me, id)
    SELECT p_tenant, i.chat, i.ext, true, i.id FROM unnest(p_chats, p_ids, p_external_ids) i (chat, id, ext) ORDER BY i.ext, i.chat
    ON CONFLICT DO NOTHING;
    IF EXISTS (SELECT FROM sidestep.early_changes e WHERE e.tenant_id = p_tenant AND e.external_id = ANY (p_external_ids)) THEN
        PERFORM sidestep.apply_changes(p_tenant, p_chats, p_external_ids);
    END IF;
    FOR v_early IN
        DELETE FROM sidestep.early_receipts e
         USING unnest(p_chats, p_ids, p_external_ids) i (chat, id, ext)
          JOIN sidestep.outbox o ON o.tenant_id = p_tenant AND o.chat_id = i.chat AND o.id = i.id
         WHERE e.tenant_id = p_tenant AND e.account_id = o.account_id AND e.external_id = i.ext
        RETURNING i.chat, i.id, e.status, e.at
    LOOP
        PERFORM sidestep.forward(p_tenant, v_early.chat, v_early.id, v_early.status, v_early.at);
    END LOOP;
    RETURN QUERY
    SELECT i.o::int, o.status FROM unnest(p_chats, p_ids) WITH ORDINALITY i (chat, id, o)
      JOIN sidestep.outbox o ON o.tenant_id = p_tenant AND o.chat_id = i.chat AND o.id = i.id;
END $$;
COMMENT ON FUNCTION sidestep.mark_all_sent IS 'The platform took these under these ids; receipts that came before are applied. Returns the status that each has now.';

CREATE OR REPLACE FUNCTION sidestep.mark_sent(p_tenant bigint, p_chat bigint, p_id bigint, p_external_id text, p_at timestamptz, p_overlapped boolean)
RETURNS text LANGUAGE sql AS $$
    SELECT s.status FROM sidestep.mark_all_sent(p_tenant, ARRAY[p_chat], ARRAY[p_id], ARRAY[p_external_id], ARRAY[p_at], ARRAY[p_overlapped]) s
$$;
COMMENT ON FUNCTION sidestep.mark_sent IS 'The platform took it under this id: mark_all_sent of one. Returns the status that it has now.';
