-- migrate:up
-- Sending what is queued: by the one daemon that serves the account, and once.

-- Leases -------------------------------------------------------------------------------------------------
-- One daemon at a time serves an account. Its lease has a number, the fence, that rises with each holder; whatever only
-- the holder may do names the number, and is refused once another has a higher one.

CREATE TABLE sidestep.leases (
    tenant_id bigint NOT NULL,
    account_id bigint NOT NULL,
    fence bigint NOT NULL,
    holder text NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, account_id),
    FOREIGN KEY (tenant_id, account_id) REFERENCES sidestep.accounts
) WITH (fillfactor = 50);
COMMENT ON TABLE sidestep.leases IS 'Who serves each account now, by the database''s clock.';
COMMENT ON COLUMN sidestep.leases.tenant_id IS 'Whose account.';
COMMENT ON COLUMN sidestep.leases.account_id IS 'The number.';
COMMENT ON COLUMN sidestep.leases.fence IS 'Rises with each holder; what names an older one is refused.';
COMMENT ON COLUMN sidestep.leases.holder IS 'Which process: its machine, its id there, and a word of chance.';
COMMENT ON COLUMN sidestep.leases.expires_at IS 'When another may take it, whatever has become of the holder, unless it is renewed.';

CREATE FUNCTION sidestep.lease_key(p_account bigint, p_fence bigint) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN hashtextextended('sidestep.lease ' || p_account, p_fence);
COMMENT ON FUNCTION sidestep.lease_key IS 'The advisory lock that a holder''s session keeps while it lives; of fence 0, the one that its acts share.';

CREATE FUNCTION sidestep.keep_lease(p_tenant bigint, p_account bigint, p_fence bigint, p_is_new_session boolean, p_holder text, p_for interval)
RETURNS TABLE (fence bigint, holder text) LANGUAGE plpgsql ROWS 1 AS $$
#variable_conflict use_column
DECLARE
    v_lease sidestep.leases;
    v_taken bigint;
BEGIN
    SELECT * INTO v_lease FROM sidestep.leases WHERE tenant_id = p_tenant AND account_id = p_account;
    IF v_lease.fence = p_fence THEN
        -- Looked at often, and written now and then.
        UPDATE sidestep.leases SET expires_at = clock_timestamp() + p_for
         WHERE tenant_id = p_tenant AND account_id = p_account AND fence = p_fence AND expires_at < clock_timestamp() + p_for * 0.8;
        IF p_is_new_session THEN
            PERFORM pg_try_advisory_lock(sidestep.lease_key(p_account, p_fence));
        END IF;
        RETURN QUERY SELECT p_fence, p_holder;
        RETURN;
    END IF;
    -- A holder that has died has lost its session, and the session its lock: nobody needs to wait for the time to be up.
    IF v_lease.expires_at > clock_timestamp() AND NOT pg_try_advisory_xact_lock(sidestep.lease_key(p_account, v_lease.fence)) THEN
        RETURN QUERY SELECT 0::bigint, v_lease.holder;
        RETURN;
    END IF;
    -- What the last holder has begun is committed before this, or refused after.
    PERFORM pg_advisory_xact_lock(sidestep.lease_key(p_account, 0));
    INSERT INTO sidestep.leases AS l (tenant_id, account_id, fence, holder, expires_at)
    VALUES (p_tenant, p_account, 1, p_holder, clock_timestamp() + p_for)
    ON CONFLICT (tenant_id, account_id) DO UPDATE SET fence = l.fence + 1, holder = excluded.holder, expires_at = excluded.expires_at
     WHERE l.fence = v_lease.fence -- else somebody was quicker
    RETURNING l.fence INTO v_taken;
    IF v_taken IS NOT NULL THEN
        PERFORM pg_try_advisory_lock(sidestep.lease_key(p_account, v_taken));
        RETURN QUERY SELECT v_taken, p_holder;
        RETURN;
    END IF;
    RETURN QUERY SELECT 0::bigint, l.holder FROM sidestep.leases l WHERE l.tenant_id = p_tenant AND l.account_id = p_account;
END $$;
COMMENT ON FUNCTION sidestep.keep_lease IS 'Renews the lease that has this fence, or takes one that is free: never held, expired, or left by a session that is gone. Returns the fence that the caller has now, 0 for none, and who has it. To be called in one session.';

CREATE FUNCTION sidestep.require_lease(p_tenant bigint, p_account bigint, p_fence bigint) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    -- Shared to the end of the transaction: a new holder comes before this look or after our commit, never in between.
    PERFORM pg_advisory_xact_lock_shared(sidestep.lease_key(p_account, 0));
    IF NOT EXISTS (SELECT FROM sidestep.leases WHERE tenant_id = p_tenant AND account_id = p_account AND fence = p_fence) THEN
        RAISE EXCEPTION 'another daemon serves this account' USING ERRCODE = 'SS004';
    END IF;
END $$;
COMMENT ON FUNCTION sidestep.require_lease IS 'The fence against a daemon that has lost its account and does not know it yet: raises unless the lease still has this number.';

-- Claims -------------------------------------------------------------------------------------------------
-- Of many chats in one commit.

CREATE FUNCTION sidestep.take_queued(p_tenant bigint, p_chats bigint[], p_ids bigint[], p_now timestamptz[], p_lease interval, p_oldest timestamptz[])
RETURNS TABLE (nth int, claim text) LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan ROWS 10 AS $$
DECLARE
    v_free bigint[];
    v_epoch bigint[];
    v_silent boolean[];
    v_is_silent_everywhere boolean;
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
    v_is_silent_everywhere := EXISTS (SELECT FROM sidestep.processing_state g WHERE g.tenant_id = p_tenant AND g.is_paused);
    -- What has no epoch is not fenced. A command's answer may be said in the silence of its chat, which the command may have
    -- asked for, but not in the one of all chats.
    UPDATE sidestep.outbox o
       SET status = 'cancelled', due_at = NULL,
           error = CASE WHEN o.epoch <> s.epoch OR (o.epoch IS NOT NULL AND (v_is_silent_everywhere OR (s.silent AND NOT o.is_command_answer)))
                        THEN 'the bot may no longer speak in this chat' ELSE 'too old to be of use' END
      FROM unnest(p_chats, p_ids, p_oldest) i (chat, id, oldest) JOIN unnest(v_free, v_epoch, v_silent) s (chat, epoch, silent) ON s.chat = i.chat
     WHERE o.tenant_id = p_tenant AND o.chat_id = i.chat AND o.id = i.id AND o.status = 'queued'
       AND (o.epoch <> s.epoch OR (o.epoch IS NOT NULL AND (v_is_silent_everywhere OR (s.silent AND NOT o.is_command_answer))) OR o.queued_at < i.oldest);
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
COMMENT ON FUNCTION sidestep.take_queued IS 'Takes queued rows for sending, one a chat: claimed; cancelled, because it may no longer be said; or gone, because someone else has settled it. A row whose chat somebody else holds is left out, unless it is alone.';

CREATE FUNCTION sidestep.claim(p_tenant bigint, p_account bigint, p_fence bigint, p_chats bigint[], p_ids bigint[], p_now timestamptz[], p_lease interval, p_oldest timestamptz[])
RETURNS TABLE (nth int, claim text) LANGUAGE plpgsql ROWS 10 AS $$
BEGIN
    PERFORM sidestep.require_lease(p_tenant, p_account, p_fence);
    RETURN QUERY SELECT t.nth, t.claim FROM sidestep.take_queued(p_tenant, p_chats, p_ids, p_now, p_lease, p_oldest) t;
END $$;
COMMENT ON FUNCTION sidestep.claim IS 'take_queued, for whoever has the account''s lease.';

-- What became of it --------------------------------------------------------------------------------------

CREATE FUNCTION sidestep.rank(p_status text) RETURNS int
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE p_status WHEN 'sent' THEN 1 WHEN 'delivered' THEN 2 WHEN 'read' THEN 3 ELSE 0 END;
COMMENT ON FUNCTION sidestep.rank IS 'How far a status is on the way from sent to read; 0 for one that says nothing of it.';

CREATE FUNCTION sidestep.forward(p_tenant bigint, p_chat bigint, p_id bigint, p_status text, p_at timestamptz) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE sidestep.outbox
       SET status = p_status, due_at = NULL, failed_at = NULL, error = NULL, sent_at = coalesce(sent_at, p_at),
           delivered_at = CASE WHEN p_status IN ('delivered', 'read') THEN coalesce(delivered_at, p_at) ELSE delivered_at END,
           read_at = CASE WHEN p_status = 'read' THEN coalesce(read_at, p_at) ELSE read_at END
     WHERE tenant_id = p_tenant AND chat_id = p_chat AND id = p_id AND sidestep.rank(p_status) > sidestep.rank(status);
    RETURN FOUND;
END $$;
COMMENT ON FUNCTION sidestep.forward IS 'Moves a status forward; late, repeated and disordered receipts change nothing.';

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
    WITH before AS MATERIALIZED ( -- as they are once nobody else is at them: a receipt may be taken for one of them at this very moment
        SELECT o.chat_id, o.id, sidestep.rank(o.status) = 0 AS has_moved
          FROM unnest(p_chats, p_ids) i (chat, id)
          JOIN sidestep.outbox o ON o.tenant_id = p_tenant AND o.chat_id = i.chat AND o.id = i.id FOR NO KEY UPDATE OF o),
    moved AS (
        UPDATE sidestep.outbox o
           SET status = CASE WHEN sidestep.rank(o.status) = 0 THEN 'sent' ELSE o.status END,
               due_at = CASE WHEN sidestep.rank(o.status) > 0 THEN o.due_at END,
               failed_at = CASE WHEN sidestep.rank(o.status) > 0 THEN o.failed_at END,
               error = CASE WHEN sidestep.rank(o.status) > 0 THEN o.error END,
               sent_at = CASE WHEN sidestep.rank(o.status) > 0 THEN o.sent_at ELSE coalesce(o.sent_at, i.at) END,
               external_id = CASE WHEN o.inferred THEN i.ext ELSE coalesce(o.external_id, i.ext) END,
               inferred = false, overlapped = o.overlapped OR i.overlapped
          FROM unnest(p_chats, p_ids, p_external_ids, p_at, p_overlapped) i (chat, id, ext, at, overlapped)
          JOIN before b ON b.chat_id = i.chat AND b.id = i.id
         WHERE o.tenant_id = p_tenant AND o.chat_id = i.chat AND o.id = i.id
        RETURNING o.id, b.has_moved)
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

CREATE FUNCTION sidestep.receive_receipt(p_tenant bigint, p_account bigint, p_channel text, p_jid text, p_alt text, p_external_id text,
    p_status text, p_at timestamptz, p_now timestamptz)
RETURNS TABLE (chat_id bigint, id bigint, status text) LANGUAGE plpgsql AS $$
DECLARE
    v_sole bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended(p_external_id, p_tenant)); -- see mark_sent
    SELECT a.chat_id INTO chat_id FROM sidestep.chat_aliases a
     WHERE a.tenant_id = p_tenant AND a.account_id = p_account AND a.channel = p_channel AND a.jid IN (p_jid, p_alt) LIMIT 1;
    status := p_status;
    SELECT k.id INTO id FROM sidestep.message_keys k
     WHERE k.tenant_id = p_tenant AND k.external_id = p_external_id AND k.chat_id = receive_receipt.chat_id AND k.from_me;
    IF FOUND THEN
        IF sidestep.forward(p_tenant, chat_id, id, p_status, p_at) THEN
            RETURN NEXT;
        END IF;
        RETURN;
    END IF;
    -- Ours, but under an id that we do not know: a send that was cut off between the platform and the store. It settles
    -- an unknown row only when nothing else in the chat can be meant.
    SELECT min(o.id) INTO v_sole FROM sidestep.outbox o
     WHERE o.tenant_id = p_tenant AND o.chat_id = receive_receipt.chat_id AND o.sent_at IS NULL
       AND o.status IN ('unknown', 'sending') AND o.queued_at <= p_at + interval '1 minute' -- the platform's clock is not ours
    HAVING count(*) = 1 AND bool_and(o.status = 'unknown');
    IF v_sole IS NOT NULL THEN
        id := v_sole;
        PERFORM sidestep.mark_sent(p_tenant, chat_id, id, p_external_id, p_at, false);
        PERFORM sidestep.forward(p_tenant, chat_id, id, p_status, p_at);
        UPDATE sidestep.outbox o SET inferred = true WHERE o.tenant_id = p_tenant AND o.chat_id = receive_receipt.chat_id AND o.id = v_sole;
        RETURN NEXT;
        RETURN;
    END IF;
    INSERT INTO sidestep.early_receipts (tenant_id, account_id, external_id, status, jid, at, received_at)
    VALUES (p_tenant, p_account, p_external_id, p_status, p_jid, p_at, p_now) ON CONFLICT DO NOTHING;
END $$;
COMMENT ON FUNCTION sidestep.receive_receipt IS 'Applies one receipt: to its message, to the only unknown send that it can mean, or kept for later. Returns what changed.';

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

CREATE FUNCTION sidestep.settle(p_tenant bigint, p_account bigint, p_fence bigint, p_chat bigint, p_id bigint, p_status text, p_error text, p_at timestamptz, p_overlapped boolean)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    -- Else a daemon that gave up before its claim would queue again what its successor is sending.
    PERFORM sidestep.require_lease(p_tenant, p_account, p_fence);
    UPDATE sidestep.outbox
       SET status = p_status, error = p_error, due_at = CASE WHEN p_status = 'queued' THEN p_at END,
           failed_at = CASE WHEN p_status = 'failed' THEN p_at END, overlapped = overlapped OR p_overlapped
     WHERE tenant_id = p_tenant AND chat_id = sidestep.chat_now(p_tenant, p_chat) AND id = p_id AND status IN ('queued', 'sending');
    IF p_status = 'queued' THEN
        -- A human who spoke while it was claimed has found nothing to drop.
        PERFORM sidestep.drop_answers(p_tenant, ARRAY[sidestep.chat_now(p_tenant, p_chat)], 'the bot may no longer speak in this chat');
    END IF;
END $$;
COMMENT ON FUNCTION sidestep.settle IS 'Closes a message of ours as failed, cancelled or unknown, or queues it again for a moment; for whoever has the account''s lease.';

-- What has failed ----------------------------------------------------------------------------------------
-- It is sent again, or given up, when somebody says so.

CREATE FUNCTION sidestep.send_again(p_tenant bigint, p_chat bigint, p_id bigint, p_now timestamptz) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    p_chat := sidestep.hold_chat(p_tenant, p_chat);
    PERFORM FROM sidestep.chat_state WHERE tenant_id = p_tenant AND chat_id = p_chat FOR NO KEY UPDATE;
    -- Failed means that it has reached nobody. It is said anew, under the epoch of now, and so not where the bot is silent:
    -- no command asks for it any longer. Where a human has spoken since it keeps the epoch of then, and will not be said.
    UPDATE sidestep.outbox o
       SET status = 'queued', due_at = p_now, queued_at = p_now, failed_at = NULL, attempts = 0, is_command_answer = false,
           error = 'to be sent again; it had failed: ' || coalesce(o.error, 'nobody knows why'),
           epoch = CASE WHEN o.epoch IS NULL OR s.last_human_at > o.queued_at THEN o.epoch ELSE s.epoch END
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
