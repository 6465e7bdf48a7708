-- migrate:up
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

ALTER FUNCTION sidestep.claim(bigint, bigint[], bigint[], timestamptz[], interval, timestamptz[]) RENAME TO take_queued;

CREATE FUNCTION sidestep.claim(p_tenant bigint, p_account bigint, p_fence bigint, p_chats bigint[], p_ids bigint[], p_now timestamptz[], p_lease interval, p_oldest timestamptz[])
RETURNS TABLE (nth int, claim text) LANGUAGE plpgsql ROWS 10 AS $$
BEGIN
    PERFORM sidestep.require_lease(p_tenant, p_account, p_fence);
    RETURN QUERY SELECT t.nth, t.claim FROM sidestep.take_queued(p_tenant, p_chats, p_ids, p_now, p_lease, p_oldest) t;
END $$;
COMMENT ON FUNCTION sidestep.claim IS 'take_queued, for whoever has the account''s lease.';

ALTER FUNCTION sidestep.answer(bigint, bigint[], timestamptz[], bigint[], text[], int[], bigint[], text[], text[], int[], text[], text[], text[], jsonb[], boolean[], int[], bigint[])
RENAME TO decide_turns;

CREATE FUNCTION sidestep.answer(p_tenant bigint, p_account bigint, p_fence bigint, p_chats bigint[], p_now timestamptz[], p_epoch bigint[], p_answers text[],
    p_turn int[], p_ids bigint[], p_actions text[], p_details text[],
    p_reply_turn int[], p_types text[], p_texts text[], p_media_urls text[], p_metadata jsonb[], p_fenced boolean[],
    p_withdraw_turn int[], p_withdraw bigint[])
RETURNS TABLE (turn int, verdict text, reply_ids bigint[]) LANGUAGE plpgsql ROWS 10 AS $$
BEGIN
    PERFORM sidestep.require_lease(p_tenant, p_account, p_fence);
    RETURN QUERY SELECT t.turn, t.verdict, t.reply_ids
      FROM sidestep.decide_turns(p_tenant, p_chats, p_now, p_epoch, p_answers, p_turn, p_ids, p_actions, p_details,
          p_reply_turn, p_types, p_texts, p_media_urls, p_metadata, p_fenced, p_withdraw_turn, p_withdraw) t;
END $$;
COMMENT ON FUNCTION sidestep.answer IS 'decide_turns, for whoever has the account''s lease.';

CREATE FUNCTION sidestep.leave_unanswered(p_tenant bigint, p_account bigint, p_fence bigint, p_chat bigint, p_now timestamptz, p_ids bigint[], p_actions text[], p_details text[])
RETURNS bigint[] LANGUAGE plpgsql AS $$
BEGIN
    PERFORM sidestep.require_lease(p_tenant, p_account, p_fence);
    RETURN sidestep.decide(p_tenant, p_chat, p_now, p_ids, p_actions, p_details);
END $$;
COMMENT ON FUNCTION sidestep.leave_unanswered IS 'Decides what is still open without an answer, as decide does; for whoever has the account''s lease.';

CREATE FUNCTION sidestep.settle(p_tenant bigint, p_account bigint, p_fence bigint, p_chat bigint, p_id bigint, p_status text, p_error text, p_at timestamptz, p_overlapped boolean)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    -- Else a daemon that gave up before its claim would queue again what its successor is sending.
    PERFORM sidestep.require_lease(p_tenant, p_account, p_fence);
    UPDATE sidestep.outbox
       SET status = p_status, error = p_error, due_at = CASE WHEN p_status = 'queued' THEN p_at END,
           failed_at = CASE WHEN p_status = 'failed' THEN p_at END, overlapped = overlapped OR p_overlapped
     WHERE tenant_id = p_tenant AND chat_id = sidestep.chat_now(p_tenant, p_chat) AND id = p_id AND status IN ('queued', 'sending');
END $$;
COMMENT ON FUNCTION sidestep.settle IS 'Closes a message of ours as failed, cancelled or unknown, or queues it again for a moment; for whoever has the account''s lease.';

-- Who serves what is no business of people's to change.
CREATE OR REPLACE FUNCTION sidestep.grant_core(p_role name) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_table record;
BEGIN
    FOR v_table IN
        SELECT c.relname, CASE
                   WHEN c.relname = 'schema_migrations' THEN NULL
                   -- The session of a number is no business of people's.
                   WHEN c.relname = 'accounts' THEN 'SELECT (tenant_id, account_id, name, channel, jid, lid, paired_at, moved_to, removed_at, created_at)'
                   WHEN c.relname = 'tenants' THEN 'SELECT, UPDATE'
                   WHEN c.relname = 'outbox' THEN 'SELECT, UPDATE, DELETE'
                   WHEN c.relname = 'blobs' THEN 'SELECT, UPDATE (is_unused)' -- when its last medium is forgotten
                   WHEN c.relkind = 'v' OR c.relname IN ('vocabulary', 'face_tables', 'tenant_roles', 'quarantine', 'leases') THEN 'SELECT'
                   ELSE 'SELECT, INSERT, UPDATE, DELETE' END AS rights
          FROM pg_class c WHERE c.relnamespace = 'sidestep'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition
    LOOP
        CONTINUE WHEN v_table.rights IS NULL;
        EXECUTE format('GRANT %s ON sidestep.%I TO %I', v_table.rights, v_table.relname, p_role);
    END LOOP;
    EXECUTE format('GRANT USAGE ON SEQUENCE sidestep.message_sequence TO %I', p_role);
END $$;

SELECT sidestep.wall_off();
