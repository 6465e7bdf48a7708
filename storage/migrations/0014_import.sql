-- migrate:up
-- What is imported goes the way of the past, sidestep.record_past; here stands only what an import knows more than a phone.

CREATE FUNCTION sidestep.identify_conversation(p_tenant bigint, p_account bigint, p_channel text, p_jid text, p_participant text,
    p_is_group boolean, p_name text, p_now timestamptz)
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_chat bigint;
    v_contact bigint;
BEGIN
    IF p_is_group OR p_jid = p_participant THEN
        SELECT i.chat_id INTO v_chat
          FROM sidestep.identify_chat(p_tenant, p_account, p_channel, p_jid, NULL, p_is_group, CASE WHEN p_is_group THEN p_name END, p_now) i;
        RETURN v_chat;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('sidestep.identify', p_tenant)); -- see identify_chat
    v_contact := sidestep.identify_contact(p_tenant, p_participant, NULL, NULL, p_now);
    SELECT a.chat_id INTO v_chat FROM sidestep.chat_aliases a
     WHERE a.tenant_id = p_tenant AND a.account_id = p_account AND a.channel = p_channel AND a.jid = p_jid;
    IF v_chat IS NULL THEN
        INSERT INTO sidestep.chats (tenant_id, account_id, channel, jid, is_group, contact_id, created_at, updated_at)
        VALUES (p_tenant, p_account, p_channel, p_jid, false, v_contact, p_now, p_now) RETURNING chat_id INTO v_chat;
        INSERT INTO sidestep.chat_state (tenant_id, chat_id, reply_jid) VALUES (p_tenant, v_chat, p_jid);
        INSERT INTO sidestep.chat_aliases (tenant_id, account_id, channel, jid, chat_id) VALUES (p_tenant, p_account, p_channel, p_jid, v_chat);
    END IF;
    RETURN v_chat;
END $$;
COMMENT ON FUNCTION sidestep.identify_conversation IS 'The one chat behind a conversation of any channel, made as needed. Where its address is not its participant''s, as that of a thread of mail, several may be with one contact.';

CREATE FUNCTION sidestep.complete_import(p_tenant bigint, p_account bigint, p_channel text, p_now timestamptz, p_jid text[], p_external_id text[],
    p_is_bot boolean[], p_media_url text[], p_edited_at timestamptz[], p_deleted_at timestamptz[], p_new int)
RETURNS int LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    IF p_new = 0 OR NOT (true = ANY (p_is_bot) OR num_nonnulls(VARIADIC p_media_url) > 0
                         OR num_nonnulls(VARIADIC p_edited_at) > 0 OR num_nonnulls(VARIADIC p_deleted_at) > 0) THEN
        RETURN p_new;
    END IF;
    WITH completed AS (
        UPDATE sidestep.messages m
           SET author = CASE WHEN i.is_bot THEN 'bot' ELSE m.author END, media_url = i.media_url,
               edited_at = coalesce(i.edited_at, m.edited_at), deleted_at = coalesce(i.deleted_at, m.deleted_at)
          FROM unnest(p_jid, p_external_id, p_is_bot, p_media_url, p_edited_at, p_deleted_at) i (jid, ext, is_bot, media_url, edited_at, deleted_at)
          JOIN sidestep.chat_aliases a ON a.tenant_id = p_tenant AND a.account_id = p_account AND a.channel = p_channel AND a.jid = i.jid
          JOIN sidestep.message_keys k ON k.tenant_id = p_tenant AND k.external_id = i.ext AND k.chat_id = a.chat_id
          -- Only what this very call has recorded: what was here before stays as it is.
          JOIN sidestep.decisions d ON d.tenant_id = p_tenant AND d.chat_id = k.chat_id AND d.message_id = k.id
                                   AND d.event_type = 'message' AND d.action_taken = 'imported' AND d.decided_at = p_now
         WHERE (i.is_bot OR i.media_url IS NOT NULL OR i.edited_at IS NOT NULL OR i.deleted_at IS NOT NULL)
           AND m.tenant_id = p_tenant AND m.chat_id = k.chat_id AND m.id = k.id
        RETURNING m.chat_id, m.id, m.type, m.media_url)
    INSERT INTO sidestep.media (tenant_id, account_id, chat_id, message_id, type, status, url, created_at)
    SELECT p_tenant, p_account, c.chat_id, c.id, c.type, 'stored', c.media_url, p_now FROM completed c
     WHERE c.media_url IS NOT NULL AND c.type IN ('image', 'video', 'audio', 'document', 'sticker')
    ON CONFLICT DO NOTHING;
    RETURN p_new;
END $$;
COMMENT ON FUNCTION sidestep.complete_import IS 'Adds to what record_past has just recorded what no phone tells: the bot as the author, the address of a medium that others keep, and when it was edited or deleted. Returns p_new, what record_past returned.';
