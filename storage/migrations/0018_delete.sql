-- migrate:up
-- Deleting single messages here. The platform is told nothing: on the phones they stay.

CREATE FUNCTION sidestep.delete_message(p_tenant bigint, p_chat bigint, p_id bigint, p_now timestamptz) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    p_chat := sidestep.hold_chat(p_tenant, p_chat);
    -- The chat before what is in it, as recording and answering lock them.
    PERFORM FROM sidestep.chat_state WHERE tenant_id = p_tenant AND chat_id = p_chat FOR NO KEY UPDATE;
    PERFORM FROM sidestep.messages WHERE tenant_id = p_tenant AND chat_id = p_chat AND id = p_id AND deleted_at IS NULL;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM sidestep.apply_revoke(p_tenant, p_chat, p_id, NULL, p_now);
    UPDATE sidestep.outbox SET status = 'cancelled', due_at = NULL, error = 'it was deleted'
     WHERE tenant_id = p_tenant AND chat_id = p_chat AND id = p_id AND status = 'queued';
    -- An answer that is just being made finds it decided, and is made anew without it.
    UPDATE sidestep.decisions SET action_taken = 'superseded', detail = 'deleted', decided_at = p_now
     WHERE tenant_id = p_tenant AND chat_id = p_chat AND message_id = p_id AND event_type IN ('message', 'live') AND action_taken IS NULL;
    RETURN true;
END $$;
COMMENT ON FUNCTION sidestep.delete_message IS 'Marks a message as deleted: its row stays, and no list, search or model reads it. It is not answered any more, nor said if it waits to be. False: there is none, or it was deleted before.';
