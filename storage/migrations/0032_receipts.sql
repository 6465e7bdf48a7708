-- migrate:up
-- Receipts of many chats in one commit.

CREATE FUNCTION sidestep.receive_receipts(p_tenant bigint, p_account bigint, p_channel text, p_nth int[], p_jid text[], p_alt text[], p_external_id text[],
    p_status text[], p_at timestamptz[], p_now timestamptz[])
RETURNS TABLE (nth int, chat_id bigint, id bigint, external_id text, status text)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan ROWS 10 AS $$
#variable_conflict use_column
DECLARE
    v_chat bigint[];
    v_id bigint[];
BEGIN
    -- See mark_all_sent; all at once and in one order, so that two calls never wait for each other in a circle.
    PERFORM pg_advisory_xact_lock(x.key) FROM (SELECT DISTINCT hashtextextended(e, p_tenant) AS key FROM unnest(p_external_id) e ORDER BY 1) x;
    SELECT array_agg(a.chat_id ORDER BY i.o), array_agg(k.id ORDER BY i.o) INTO v_chat, v_id
      FROM unnest(p_jid, p_alt, p_external_id) WITH ORDINALITY i (jid, alt, ext, o)
      LEFT JOIN LATERAL (SELECT a.chat_id FROM sidestep.chat_aliases a
                          WHERE a.tenant_id = p_tenant AND a.account_id = p_account AND a.channel = p_channel AND a.jid IN (i.jid, i.alt) LIMIT 1) a ON true
      LEFT JOIN sidestep.message_keys k ON k.tenant_id = p_tenant AND k.external_id = i.ext AND k.chat_id = a.chat_id AND k.from_me AND k.sender_id = 0;
    -- What is known moves forward, as by sidestep.forward; of two receipts for one message the further one counts.
    RETURN QUERY
    WITH told AS (
        SELECT DISTINCT ON (i.chat, i.id) i.* FROM unnest(p_nth, v_chat, v_id, p_external_id, p_status, p_at) i (nth, chat, id, ext, status, at)
         WHERE i.id IS NOT NULL ORDER BY i.chat, i.id, sidestep.rank(i.status) DESC)
    UPDATE sidestep.outbox o
       SET status = t.status, due_at = NULL, failed_at = NULL, error = NULL, sent_at = coalesce(o.sent_at, t.at),
           delivered_at = CASE WHEN t.status IN ('delivered', 'read') THEN coalesce(o.delivered_at, t.at) ELSE o.delivered_at END,
           read_at = CASE WHEN t.status = 'read' THEN coalesce(o.read_at, t.at) ELSE o.read_at END
      FROM told t
     WHERE o.tenant_id = p_tenant AND o.chat_id = t.chat AND o.id = t.id AND sidestep.rank(t.status) > sidestep.rank(o.status)
    RETURNING t.nth, o.chat_id, o.id, t.ext, o.status;
    IF array_position(v_id, NULL) IS NOT NULL THEN
        RETURN QUERY
        SELECT i.nth, r.chat_id, r.id, i.ext, r.status
          FROM unnest(p_nth, v_id, p_jid, p_alt, p_external_id, p_status, p_at, p_now) WITH ORDINALITY i (nth, id, jid, alt, ext, status, at, now, o),
               sidestep.receive_receipt(p_tenant, p_account, p_channel, i.jid, i.alt, i.ext, i.status, i.at, i.now) r
         WHERE i.id IS NULL ORDER BY i.o;
    END IF;
END $$;
COMMENT ON FUNCTION sidestep.receive_receipts IS 'Applies receipts, each external id of each by itself: where the message is known at once, else by receive_receipt. Returns what changed, with the number of its receipt.';
