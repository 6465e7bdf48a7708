-- migrate:up
-- Everybody whom a batch of messages names for the first time, in one call.

CREATE FUNCTION sidestep.identify(p_tenant bigint, p_account bigint, p_channel text, p_kinds text[], p_jids text[], p_alts text[], p_names text[], p_now timestamptz)
RETURNS TABLE (chat_id bigint, gone_chat_id bigint) LANGUAGE plpgsql AS $$
DECLARE
    v_party record;
BEGIN
    FOR v_party IN SELECT i.* FROM unnest(p_kinds, p_jids, p_alts, p_names) WITH ORDINALITY i (kind, jid, alt, name, o) ORDER BY i.o LOOP
        IF v_party.kind = 'sender' THEN
            RETURN QUERY SELECT * FROM sidestep.identify_sender(p_tenant, p_account, p_channel, v_party.jid, v_party.alt, v_party.name, p_now);
        ELSE
            RETURN QUERY SELECT * FROM sidestep.identify_chat(p_tenant, p_account, p_channel, v_party.jid, v_party.alt, v_party.kind = 'group', v_party.name, p_now);
        END IF;
    END LOOP;
END $$;
COMMENT ON FUNCTION sidestep.identify IS 'The chats of persons and groups, and the contacts of groups'' senders, one after the other in one commit; see identify_chat and identify_sender.';
