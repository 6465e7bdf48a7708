-- migrate:up
-- A person who writes from a program of the business', such as a web page, is a human as on the phone.

CREATE FUNCTION sidestep.speak(p_tenant bigint, p_chat bigint, p_now timestamptz, p_type text, p_text text, p_media_url text, p_metadata jsonb)
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_action text;
    v_id bigint;
BEGIN
    p_chat := sidestep.hold_chat(p_tenant, p_chat);
    v_action := sidestep.take_over(p_tenant, p_chat, p_now, p_now);
    v_id := sidestep.enqueue(p_tenant, p_chat, p_now, NULL, false, '{}', p_type, p_text, p_media_url, p_metadata);
    UPDATE sidestep.messages SET author = 'human' WHERE tenant_id = p_tenant AND chat_id = p_chat AND id = v_id;
    UPDATE sidestep.chat_state SET last_human_id = v_id WHERE tenant_id = p_tenant AND chat_id = p_chat;
    INSERT INTO sidestep.decisions (tenant_id, chat_id, message_id, event_type, action_taken, decided_at)
    VALUES (p_tenant, p_chat, v_id, 'message', v_action, p_now);
    RETURN v_id;
END $$;
COMMENT ON FUNCTION sidestep.speak IS 'Queues what a person says through us, takes the chat over and decides the message, in one commit.';

-- As in 0045_states, but that the chat is held once, not for each row that is looked at.
CREATE OR REPLACE FUNCTION sidestep.pause(p_tenant bigint, p_chat bigint, p_reason text, p_now timestamptz, p_until timestamptz) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_cause text := CASE p_reason WHEN 'human_takeover' THEN 'human_spoke' WHEN 'manual_pause' THEN 'pause'
                                  WHEN 'ai_handoff' THEN 'hand_off' WHEN 'customer_request' THEN 'ask_for_human' END;
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
