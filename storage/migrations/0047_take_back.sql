-- migrate:up
-- A command that was typed in a customer's chat is taken back by a message of ours; and people are found by their names
-- without their accents.

CREATE FUNCTION sidestep.take_back(p_tenant bigint, p_chat bigint, p_now timestamptz, p_id bigint, p_external_id text) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    v_id bigint;
BEGIN
    p_chat := sidestep.hold_chat(p_tenant, p_chat);
    v_id := sidestep.enqueue(p_tenant, p_chat, p_now, NULL, false, ARRAY[p_id], 'revoke', NULL, NULL, NULL);
    UPDATE sidestep.messages SET reply_to = p_external_id WHERE tenant_id = p_tenant AND chat_id = p_chat AND id = v_id;
    RETURN v_id;
END $$;
COMMENT ON FUNCTION sidestep.take_back IS 'Queues the revoke of a message that was written on one of the account''s own devices; returns the id of the revoke.';

CREATE FUNCTION sidestep.taken_back(p_tenant bigint, p_chat bigint, p_id bigint, p_at timestamptz) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    p_chat := sidestep.hold_chat(p_tenant, p_chat);
    PERFORM sidestep.apply_revoke(p_tenant, p_chat, k.id, p_id, p_at)
       FROM sidestep.messages m
       JOIN sidestep.message_keys k ON k.tenant_id = m.tenant_id AND k.external_id = m.reply_to AND k.chat_id = m.chat_id AND k.from_me
      WHERE m.tenant_id = p_tenant AND m.chat_id = p_chat AND m.id = p_id;
END $$;
COMMENT ON FUNCTION sidestep.taken_back IS 'The platform has taken such a revoke: what it is about is deleted.';

CREATE FUNCTION sidestep.folded(p_text text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN octet_length(p_text) = char_length(p_text) THEN lower(p_text)
            ELSE translate(lower(regexp_replace(normalize(p_text, NFKD), '[\u0300-\u036F]+', '', 'g')), 'ıłøđ', 'ilod') END;
COMMENT ON FUNCTION sidestep.folded IS 'A name as people type it: small letters, no accents.';
