-- migrate:up
-- A chat may have a time of its own after which the owner's silence ends a takeover.

ALTER TABLE sidestep.chat_state ADD COLUMN auto_resume_after interval CHECK (auto_resume_after >= interval '0');
COMMENT ON COLUMN sidestep.chat_state.auto_resume_after IS 'The owner''s silence that ends a takeover here; null: the tenant''s; 0: none does.';

CREATE FUNCTION sidestep.idle_after(p_tenants interval, p_chats interval) RETURNS interval
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN p_chats IS NULL THEN p_tenants WHEN p_chats > interval '0' THEN p_chats END;
COMMENT ON FUNCTION sidestep.idle_after IS 'The owner''s silence that ends a takeover in a chat, by what the tenant and the chat say; null: none does.';

CREATE OR REPLACE FUNCTION sidestep.resume_due(p_tenant bigint, p_now timestamptz, p_limit int)
RETURNS TABLE (chat_id bigint, message_id bigint, due_at timestamptz) LANGUAGE sql AS $$
    WITH due AS (
        SELECT s.tenant_id, s.chat_id, d.at
          FROM sidestep.chat_state s JOIN sidestep.tenants t USING (tenant_id),
               LATERAL (SELECT sidestep.idle_after(t.auto_resume_after, s.auto_resume_after) AS after) i,
               LATERAL (SELECT CASE
                            -- A human who spoke during a pause for a time is not interrupted when it ends.
                            WHEN s.paused_until IS NOT NULL THEN greatest(s.paused_until,
                                CASE WHEN s.last_human_at > s.paused_at THEN s.last_human_at + i.after END)
                            WHEN s.pause_reason = 'human_takeover' THEN s.last_human_at + i.after
                            WHEN s.pause_reason IN ('ai_handoff', 'customer_request')
                                THEN greatest(s.last_human_at, s.paused_at) + i.after
                        END AS at) d
         WHERE s.tenant_id = p_tenant AND s.is_paused AND d.at <= p_now
         ORDER BY d.at LIMIT p_limit FOR NO KEY UPDATE OF s SKIP LOCKED),
    back AS (
        UPDATE sidestep.chat_state s
           SET is_paused = false, pause_reason = NULL, paused_at = NULL, paused_until = NULL, epoch = s.epoch + 1
          FROM due WHERE s.tenant_id = due.tenant_id AND s.chat_id = due.chat_id
        RETURNING s.tenant_id, s.chat_id, s.epoch, coalesce(s.last_human_id, s.last_message_id) AS message_id, due.at),
    told AS (
        INSERT INTO sidestep.decisions (tenant_id, chat_id, message_id, event_type, action_taken, decided_at)
        SELECT tenant_id, chat_id, message_id, 'clock:' || epoch, 'resumed', p_now FROM back
         WHERE EXISTS (SELECT FROM sidestep.messages m -- it may have been archived with its month
                        WHERE m.tenant_id = back.tenant_id AND m.chat_id = back.chat_id AND m.id = back.message_id))
    SELECT chat_id, message_id, at FROM back ORDER BY at
$$;

-- Where else a takeover is weighed against its end, and where two chats become one, the chat's own time is to be heard. These
-- functions are long and not about this, so that only the words in question are exchanged.
DO $$
DECLARE
    v_change record;
    v_before text;
    v_after text;
BEGIN
    FOR v_change IN VALUES
        ('record', 'v_resume, p_now', 'sidestep.idle_after(v_resume, s.auto_resume_after), p_now'),
        ('take_over', 't.auto_resume_after, p_now', 'sidestep.idle_after(t.auto_resume_after, s.auto_resume_after), p_now'),
        ('merge_chats', 'is_excluded = v_keep.is_excluded OR v_gone.is_excluded,',
         'is_excluded = v_keep.is_excluded OR v_gone.is_excluded, auto_resume_after = coalesce(v_keep.auto_resume_after, v_gone.auto_resume_after),
           resume_mode = CASE WHEN ''from_now'' IN (v_keep.resume_mode, v_gone.resume_mode) THEN ''from_now'' ELSE ''from_last'' END, away_until = greatest(v_keep.away_until, v_gone.away_until),')
    LOOP
        SELECT pg_get_functiondef(oid) INTO STRICT v_before FROM pg_proc
         WHERE pronamespace = 'sidestep'::regnamespace AND proname = v_change.column1;
        v_after := replace(v_before, v_change.column2, v_change.column3);
        IF v_after = v_before THEN
            RAISE EXCEPTION 'sidestep.% does not say "%"', v_change.column1, v_change.column2;
        END IF;
        EXECUTE v_after;
    END LOOP;
END $$;
