-- migrate:up
-- What is written by SQL is kept as before, but for two questions that are asked only where there is something to do: it takes
-- a third less time.

CREATE OR REPLACE FUNCTION sidestep.write_message(p_tenant bigint, p_chat bigint, p_external_id text, p_stored_at timestamptz, p_sent_at timestamptz,
    p_from_me boolean, p_type text, p_text text, p_media_url text, p_sender bigint, p_reply_to text, p_command text, p_metadata jsonb, p_raw jsonb,
    p_unique_in_tenant boolean)
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_now timestamptz := now();
    -- Never of the future: what comes live after it must get a higher id.
    v_at timestamptz := date_trunc('milliseconds', greatest(least(coalesce(p_stored_at, v_now), v_now), timestamptz '2009-01-01Z'));
    v_sent timestamptz := greatest(least(coalesce(p_sent_at, v_at), v_now + interval '1 day'), timestamptz '2009-01-01Z');
    v_is_past boolean := v_at < v_now - interval '1 second';
    v_group boolean;
    v_sender bigint;
    v_state sidestep.chat_state;
    v_thread bigint;
    v_id bigint;
BEGIN
    PERFORM sidestep.make_month(v_at);
    PERFORM pg_advisory_xact_lock(hashtextextended(p_external_id, p_tenant)); -- first of the locks, as in mark_sent
    IF p_unique_in_tenant AND EXISTS (SELECT FROM sidestep.message_keys WHERE tenant_id = p_tenant AND external_id = p_external_id) THEN
        RETURN NULL;
    END IF;
    p_chat := sidestep.hold_chat(p_tenant, p_chat);
    SELECT * INTO STRICT v_state FROM sidestep.chat_state WHERE tenant_id = p_tenant AND chat_id = p_chat FOR NO KEY UPDATE;
    SELECT is_group, CASE WHEN NOT p_from_me THEN coalesce(p_sender, contact_id) END INTO STRICT v_group, v_sender
      FROM sidestep.chats WHERE tenant_id = p_tenant AND chat_id = p_chat;
    v_id := CASE WHEN v_is_past THEN sidestep.milliseconds(v_at) << 20
                 ELSE greatest(sidestep.milliseconds(v_at), (v_state.last_message_id >> 20) + 1) << 20 END
            | (nextval('sidestep.message_sequence') & 1048575);
    INSERT INTO sidestep.message_keys (tenant_id, chat_id, external_id, from_me, sender_id, id)
    VALUES (p_tenant, p_chat, p_external_id, p_from_me, CASE WHEN v_group THEN coalesce(v_sender, 0) ELSE 0 END, v_id) ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;

    IF v_is_past THEN
        v_thread := (sidestep.past_threads(p_tenant, ARRAY[p_chat], ARRAY[v_at], v_now))[1];
    ELSIF v_state.active_thread_id IS NULL THEN
        PERFORM sidestep.open_threads(p_tenant, ARRAY[p_chat], v_now);
    END IF;
    UPDATE sidestep.chat_state SET last_message_id = greatest(last_message_id, v_id), last_message_at = greatest(last_message_at, v_at)
     WHERE tenant_id = p_tenant AND chat_id = p_chat RETURNING coalesce(v_thread, active_thread_id) INTO v_thread;
    INSERT INTO sidestep.messages (tenant_id, chat_id, id, thread_id, direction, author, type, external_id, sender_id, sender_device,
                                   is_group, text, media_url, reply_to, command, metadata, sent_at)
    VALUES (p_tenant, p_chat, v_id, v_thread, CASE WHEN p_from_me THEN 'outbound' ELSE 'inbound' END, CASE WHEN p_from_me THEN 'human' ELSE 'customer' END,
            p_type, p_external_id, v_sender, CASE WHEN p_from_me THEN 0 END, v_group, p_text, p_media_url, p_reply_to, p_command, p_metadata, v_sent);
    INSERT INTO sidestep.message_payloads (tenant_id, chat_id, id, raw) SELECT p_tenant, p_chat, v_id, p_raw WHERE p_raw IS NOT NULL;
    -- A record: decided, so that nobody answers it, and not in the outbox, so that nobody sends it.
    INSERT INTO sidestep.decisions (tenant_id, chat_id, message_id, action_taken, decided_at) VALUES (p_tenant, p_chat, v_id, 'imported', v_now);
    IF EXISTS (SELECT FROM sidestep.early_changes WHERE tenant_id = p_tenant AND external_id = p_external_id) THEN
        PERFORM sidestep.apply_changes(p_tenant, ARRAY[p_chat], ARRAY[p_external_id]);
    END IF;
    RETURN v_id;
END $$;
