-- migrate:up
-- A chat in which another bot answers ours is paused for a while, for a reason of its own.

ALTER TABLE sidestep.chat_state DROP CONSTRAINT chat_state_pause_reason_check,
    ADD CONSTRAINT chat_state_pause_reason_check
        CHECK (pause_reason IN ('human_takeover', 'manual_pause', 'ai_handoff', 'customer_request', 'bot_loop'));

CREATE OR REPLACE FUNCTION sidestep.after(p_state text, p_cause text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE p_cause
    WHEN 'human_spoke' THEN CASE WHEN p_state IN ('active', 'ai_handoff', 'customer_request', 'bot_loop') THEN 'human_takeover' ELSE p_state END
    WHEN 'pause' THEN CASE WHEN p_state IN ('active', 'human_takeover', 'ai_handoff', 'customer_request', 'bot_loop') THEN 'manual_pause' ELSE p_state END
    WHEN 'hand_off' THEN CASE p_state WHEN 'active' THEN 'ai_handoff' ELSE p_state END
    WHEN 'ask_for_human' THEN CASE p_state WHEN 'active' THEN 'customer_request' ELSE p_state END
    WHEN 'find_loop' THEN CASE p_state WHEN 'active' THEN 'bot_loop' ELSE p_state END
    WHEN 'resume' THEN CASE WHEN p_state IN ('human_takeover', 'manual_pause', 'ai_handoff', 'customer_request', 'bot_loop') THEN 'active' ELSE p_state END
    WHEN 'clock' THEN CASE WHEN p_state IN ('human_takeover', 'manual_pause', 'ai_handoff', 'customer_request', 'bot_loop') THEN 'active' ELSE p_state END
    WHEN 'exclude' THEN CASE p_state WHEN 'active' THEN 'excluded' ELSE p_state END
    WHEN 'include' THEN CASE p_state WHEN 'excluded' THEN 'active' ELSE p_state END
    WHEN 'stop' THEN CASE p_state WHEN 'active' THEN 'opted_out' ELSE p_state END
    WHEN 'start' THEN CASE p_state WHEN 'opted_out' THEN 'active' ELSE p_state END
    WHEN 'global_pause' THEN CASE p_state WHEN 'active' THEN 'global_pause' ELSE p_state END
    WHEN 'global_resume' THEN CASE p_state WHEN 'global_pause' THEN 'active' ELSE p_state END
END;

CREATE OR REPLACE FUNCTION sidestep.guard_state() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.epoch <= OLD.epoch OR NOT EXISTS (
        SELECT FROM unnest(ARRAY['human_spoke', 'pause', 'hand_off', 'ask_for_human', 'find_loop', 'resume', 'clock']) c (cause)
         WHERE sidestep.after(coalesce(OLD.pause_reason, 'active'), cause) = coalesce(NEW.pause_reason, 'active')) THEN
        RAISE EXCEPTION 'the state of chat % cannot go from % to % like this', NEW.chat_id, coalesce(OLD.pause_reason, 'active'), coalesce(NEW.pause_reason, 'active')
            USING ERRCODE = 'check_violation', TABLE = 'chat_state',
                  HINT = 'Call sidestep.pause, resume, exclude or opt_out: they raise the epoch, so that no answer begun before is still sent.';
    END IF;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION sidestep.pause(p_tenant bigint, p_chat bigint, p_reason text, p_now timestamptz, p_until timestamptz) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_cause text := CASE p_reason WHEN 'human_takeover' THEN 'human_spoke' WHEN 'manual_pause' THEN 'pause'
                                  WHEN 'ai_handoff' THEN 'hand_off' WHEN 'customer_request' THEN 'ask_for_human'
                                  WHEN 'bot_loop' THEN 'find_loop' END;
BEGIN
    p_chat := sidestep.hold_chat(p_tenant, p_chat);
    -- Whoever writes a reason by SQL means it, whatever stood there before.
    IF sidestep.change_pause(p_tenant, p_chat, v_cause, p_now, p_until) <> p_reason THEN
        PERFORM sidestep.change_pause(p_tenant, p_chat, 'resume', p_now);
        PERFORM sidestep.change_pause(p_tenant, p_chat, v_cause, p_now, p_until);
    END IF;
    IF p_reason = 'human_takeover' THEN
        UPDATE sidestep.chat_state SET last_human_at = p_now WHERE tenant_id = p_tenant AND chat_id = p_chat;
    END IF;
END $$;
