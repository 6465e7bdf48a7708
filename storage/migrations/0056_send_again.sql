-- migrate:up
-- What is said of a send is said once; and what has failed is sent again, or given up, when somebody says so.

DROP FUNCTION sidestep.mark_sent(bigint, bigint, bigint, text, timestamptz, boolean);
DROP FUNCTION sidestep.mark_all_sent(bigint, bigint[], bigint[], text[], timestamptz[], boolean[]);

CREATE FUNCTION sidestep.mark_all_sent(p_tenant bigint, p_chats bigint[], p_ids bigint[], p_external_ids text[], p_at timestamptz[], p_overlapped boolean[])
RETURNS TABLE (nth int, status text, has_moved boolean) LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan ROWS 10 AS $$
#variable_conflict use_column
DECLARE
    v_early record;
    v_moved bigint[];
BEGIN
    -- A receipt that comes at this very moment either finds the key below or is found among the early ones.
    PERFORM pg_advisory_xact_lock(x.key) FROM (SELECT DISTINCT hashtextextended(e, p_tenant) AS key FROM unnest(p_external_ids) e ORDER BY 1) x;
    -- Held where they are until the commit. One may have been merged while the platform took its time.
    IF cardinality(p_chats) <> (SELECT count(*) FROM (SELECT s.chat_id FROM sidestep.chat_state s WHERE s.tenant_id = p_tenant AND s.chat_id = ANY (p_chats)
                                                       ORDER BY s.chat_id FOR KEY SHARE) held) THEN
        p_chats := ARRAY(SELECT sidestep.hold_chat(p_tenant, c) FROM unnest(p_chats) WITH ORDINALITY i (c, o) ORDER BY o);
    END IF;
    -- Forward only, as sidestep.forward does. What the platform says beats what was inferred.
    WITH moved AS (
        UPDATE sidestep.outbox o
           SET status = CASE WHEN sidestep.rank(o.status) = 0 THEN 'sent' ELSE o.status END,
               due_at = CASE WHEN sidestep.rank(o.status) > 0 THEN o.due_at END,
               failed_at = CASE WHEN sidestep.rank(o.status) > 0 THEN o.failed_at END,
               error = CASE WHEN sidestep.rank(o.status) > 0 THEN o.error END,
               sent_at = CASE WHEN sidestep.rank(o.status) > 0 THEN o.sent_at ELSE coalesce(o.sent_at, i.at) END,
               external_id = CASE WHEN o.inferred THEN i.ext ELSE coalesce(o.external_id, i.ext) END,
               inferred = false, overlapped = o.overlapped OR i.overlapped
          FROM unnest(p_chats, p_ids, p_external_ids, p_at, p_overlapped) i (chat, id, ext, at, overlapped)
          JOIN sidestep.outbox b ON b.tenant_id = p_tenant AND b.chat_id = i.chat AND b.id = i.id
         WHERE o.tenant_id = p_tenant AND o.chat_id = i.chat AND o.id = i.id
        RETURNING o.id, sidestep.rank(b.status) = 0 AS has_moved)
    SELECT array_agg(m.id) INTO v_moved FROM moved m WHERE m.has_moved;
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
    SELECT i.o::int, o.status, coalesce(i.id = ANY (v_moved), false) FROM unnest(p_chats, p_ids) WITH ORDINALITY i (chat, id, o)
      JOIN sidestep.outbox o ON o.tenant_id = p_tenant AND o.chat_id = i.chat AND o.id = i.id;
END $$;
COMMENT ON FUNCTION sidestep.mark_all_sent IS 'The platform took these under these ids; receipts that came before are applied. Returns the status that each has now, and whether this has moved it: not where a receipt had said as much before.';

CREATE FUNCTION sidestep.mark_sent(p_tenant bigint, p_chat bigint, p_id bigint, p_external_id text, p_at timestamptz, p_overlapped boolean)
RETURNS text LANGUAGE sql AS $$
    SELECT s.status FROM sidestep.mark_all_sent(p_tenant, ARRAY[p_chat], ARRAY[p_id], ARRAY[p_external_id], ARRAY[p_at], ARRAY[p_overlapped]) s
$$;
COMMENT ON FUNCTION sidestep.mark_sent IS 'The platform took it under this id: mark_all_sent of one. Returns the status that it has now.';

CREATE FUNCTION sidestep.send_again(p_tenant bigint, p_chat bigint, p_id bigint, p_now timestamptz) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    p_chat := sidestep.hold_chat(p_tenant, p_chat);
    PERFORM FROM sidestep.chat_state WHERE tenant_id = p_tenant AND chat_id = p_chat FOR NO KEY UPDATE;
    -- Failed means that it has reached nobody. It is said anew, under the epoch of now, and so not where the bot is silent.
    UPDATE sidestep.outbox o
       SET status = 'queued', due_at = p_now, queued_at = p_now, failed_at = NULL, attempts = 0,
           error = 'to be sent again; it had failed: ' || coalesce(o.error, 'nobody knows why'),
           epoch = CASE WHEN o.epoch IS NOT NULL THEN s.epoch END
      FROM sidestep.chat_state s
     WHERE s.tenant_id = p_tenant AND s.chat_id = p_chat
       AND o.tenant_id = p_tenant AND o.chat_id = p_chat AND o.id = p_id AND o.status = 'failed';
    RETURN FOUND;
END $$;
COMMENT ON FUNCTION sidestep.send_again IS 'Queues a failed message of ours once more; false where it is not failed any longer.';

CREATE FUNCTION sidestep.drop_failed(p_tenant bigint, p_chat bigint, p_id bigint) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE sidestep.outbox SET status = 'cancelled', failed_at = NULL, error = 'dropped; it had failed: ' || coalesce(error, 'nobody knows why')
     WHERE tenant_id = p_tenant AND chat_id = sidestep.chat_now(p_tenant, p_chat) AND id = p_id AND status = 'failed';
    RETURN FOUND;
END $$;
COMMENT ON FUNCTION sidestep.drop_failed IS 'Nobody wants a failed message of ours to be sent any more; false where it is not failed any longer.';

CREATE FUNCTION sidestep.give_up(p_tenant bigint, p_account bigint, p_fence bigint, p_chat bigint, p_error text, p_at timestamptz) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    v_id bigint;
BEGIN
    PERFORM sidestep.require_lease(p_tenant, p_account, p_fence);
    UPDATE sidestep.outbox SET status = 'failed', due_at = NULL, failed_at = p_at, error = p_error
     WHERE tenant_id = p_tenant AND chat_id = p_chat AND status = 'queued'
       AND id = (SELECT min(id) FROM sidestep.outbox WHERE tenant_id = p_tenant AND account_id = p_account AND chat_id = p_chat AND status = 'queued' AND sent_at IS NULL)
    RETURNING id INTO v_id;
    RETURN v_id;
END $$;
COMMENT ON FUNCTION sidestep.give_up IS 'The first message in a chat''s queue cannot be handled at all, and would hold up the others for ever: it has failed. Returns which.';
