-- migrate:up
-- The past, as a phone that is linked tells it, or an import. It wakes nobody.

CREATE FUNCTION sidestep.settle_unsent(p_tenant bigint, p_chat bigint, p_external_id text, p_text text, p_at timestamptz) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_sole bigint;
BEGIN
    SELECT min(o.id) INTO v_sole
      FROM sidestep.outbox o JOIN sidestep.messages m ON m.tenant_id = o.tenant_id AND m.chat_id = o.chat_id AND m.id = o.id
     WHERE o.tenant_id = p_tenant AND o.chat_id = p_chat AND o.sent_at IS NULL AND o.status IN ('unknown', 'sending') AND m.text = p_text
       AND o.queued_at BETWEEN p_at - interval '1 hour' AND p_at + interval '1 minute' -- the platform's clock is not ours
    HAVING count(*) = 1;
    IF v_sole IS NOT NULL THEN
        PERFORM sidestep.mark_sent(p_tenant, p_chat, v_sole, p_external_id, p_at, false);
        UPDATE sidestep.outbox SET inferred = true WHERE tenant_id = p_tenant AND chat_id = p_chat AND id = v_sole;
    END IF;
END $$;
COMMENT ON FUNCTION sidestep.settle_unsent IS 'The platform''s history tells that a message of ours, not known to be sent, did go out under this id: same chat, same words, same hour.';

CREATE FUNCTION sidestep.past_threads(p_tenant bigint, p_chat bigint[], p_at timestamptz[], p_now timestamptz) RETURNS bigint[]
LANGUAGE plpgsql AS $$
DECLARE
    v_thread bigint[];
BEGIN
    PERFORM sidestep.open_threads(p_tenant, ARRAY(
        SELECT DISTINCT c FROM unnest(p_chat) c
         WHERE NOT EXISTS (SELECT FROM sidestep.threads t WHERE t.tenant_id = p_tenant AND t.chat_id = c)), p_now);
    UPDATE sidestep.threads t SET created_at = first.at
      FROM (SELECT DISTINCT ON (chat) o.thread_id, b.at
              FROM (SELECT chat, min(at) AS at FROM unnest(p_chat, p_at) i (chat, at) GROUP BY chat) b
              JOIN sidestep.threads o ON o.tenant_id = p_tenant AND o.chat_id = b.chat
             ORDER BY chat, o.created_at, o.thread_id) first
     WHERE t.tenant_id = p_tenant AND t.thread_id = first.thread_id AND t.created_at > first.at;
    SELECT array_agg((SELECT t.thread_id FROM sidestep.threads t
                       WHERE t.tenant_id = p_tenant AND t.chat_id = chat AND t.created_at <= at
                       ORDER BY t.created_at DESC, t.thread_id DESC LIMIT 1) ORDER BY o) INTO v_thread
      FROM unnest(p_chat, p_at) WITH ORDINALITY i (chat, at, o);
    RETURN v_thread;
END $$;
COMMENT ON FUNCTION sidestep.past_threads IS 'The thread of each moment: the one that was active then; what is older than a chat''s first thread moves its beginning back.';

CREATE FUNCTION sidestep.record_past(p_tenant bigint, p_account bigint, p_channel text, p_now timestamptz,
    p_jid text[], p_sender text[], p_device int[], p_external_id text[], p_author text[], p_type text[], p_is_group boolean[],
    p_text text[], p_reply_to text[], p_addressed boolean[], p_command text[], p_sent_at timestamptz[], p_raw text[],
    p_target_from_me boolean[], p_target_sender text[], p_metadata jsonb[])
RETURNS int LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET lock_timeout = '2s' AS $$
DECLARE
    v_chat bigint[];
    v_contact bigint[];
    v_at timestamptz[];
    v_thread bigint[];
    v_id bigint[];
    v_new boolean[];
    v_known bigint[]; -- the ids under which they are here
    v_own record;
BEGIN
    SELECT chats, contacts INTO v_chat, v_contact FROM sidestep.whereabouts(p_tenant, p_account, p_channel, p_jid, p_sender, p_external_id);
    PERFORM sidestep.lock_chats(p_tenant, v_chat);
    -- Nothing of the past is of now: what is recorded live meanwhile gets a higher id.
    SELECT array_agg(date_trunc('milliseconds', least(at, p_now - interval '1 millisecond')) ORDER BY o) INTO v_at FROM unnest(p_sent_at) WITH ORDINALITY i (at, o);
    FOR v_own IN SELECT * FROM unnest(v_chat, p_author, p_external_id, p_text, v_at) i (chat, author, ext, txt, at)
                  WHERE author = 'human' AND EXISTS (SELECT FROM sidestep.outbox u
                        WHERE u.tenant_id = p_tenant AND u.chat_id = chat AND u.sent_at IS NULL AND u.status IN ('unknown', 'sending'))
                    -- What is known to be another message is not this one, though it has the same words.
                    AND NOT EXISTS (SELECT FROM sidestep.message_keys k
                        WHERE k.tenant_id = p_tenant AND k.chat_id = chat AND k.external_id = ext AND k.from_me) LOOP
        PERFORM sidestep.settle_unsent(p_tenant, v_own.chat, v_own.ext, v_own.txt, v_own.at);
    END LOOP;

    WITH numbered AS MATERIALIZED (
        SELECT i.*, nextval('sidestep.message_sequence') AS n
          FROM unnest(v_chat, v_contact, v_at, p_external_id, p_author, p_is_group) WITH ORDINALITY i (chat, contact, at, ext, author, grp, o)),
    placed AS MATERIALIZED (
        SELECT numbered.*, ((sidestep.milliseconds(at) + (n >> 20) - (min(n) OVER () >> 20)) << 20) | (n & 1048575) AS id FROM numbered),
    keyed AS (
        INSERT INTO sidestep.message_keys AS k (tenant_id, chat_id, external_id, from_me, sender_id, id)
        SELECT p_tenant, chat, ext, author = 'human', CASE WHEN grp AND author = 'customer' THEN coalesce(contact, 0) ELSE 0 END, placed.id
          FROM placed ORDER BY o ON CONFLICT DO NOTHING RETURNING k.chat_id, k.id)
    SELECT array_agg(placed.id ORDER BY o), array_agg(keyed.id IS NOT NULL ORDER BY o) INTO v_id, v_new
      FROM placed LEFT JOIN keyed ON keyed.id = placed.id AND keyed.chat_id = placed.chat;
    IF false = ANY (v_new) THEN -- what came live and could not be read: the phone can
        SELECT array_agg(coalesce(k.id, i.id) ORDER BY o) INTO v_known
          FROM unnest(v_chat, v_id, p_external_id, p_author, p_is_group, v_contact) WITH ORDINALITY i (chat, id, ext, author, grp, contact, o)
          LEFT JOIN sidestep.message_keys k
            ON k.tenant_id = p_tenant AND k.external_id = ext AND k.chat_id = chat AND k.from_me = (author = 'human')
           AND k.sender_id = CASE WHEN grp AND author = 'customer' THEN coalesce(contact, 0) ELSE 0 END;
        PERFORM sidestep.read_unopened(p_tenant, p_account, p_now, v_chat, v_known, v_new, v_new, p_type, p_text, p_reply_to, p_addressed, p_metadata, p_raw);
    END IF;
    IF true <> ALL (v_new) THEN -- all of it has been here before: each new link tells the past anew
        RETURN 0;
    END IF;

    v_thread := sidestep.past_threads(p_tenant, v_chat, v_at, p_now);
    INSERT INTO sidestep.messages (tenant_id, chat_id, id, thread_id, direction, author, type, external_id, sender_id, sender_device,
                                   is_group, text, reply_to, addressed, command, metadata, sent_at)
    SELECT p_tenant, chat, id, thread, CASE WHEN author = 'human' THEN 'outbound' ELSE 'inbound' END, author, typ, ext,
           CASE WHEN author = 'customer' THEN contact END, CASE WHEN author = 'human' THEN device END, grp, txt, reply_to, addressed, command, metadata, at
      FROM unnest(v_chat, v_contact, v_id, v_new, v_thread, p_author, p_type, p_external_id, p_device, p_is_group, p_text, p_reply_to,
                  p_addressed, p_command, p_metadata, v_at) WITH ORDINALITY
           i (chat, contact, id, fresh, thread, author, typ, ext, device, grp, txt, reply_to, addressed, command, metadata, at, o)
     WHERE fresh ORDER BY o;
    INSERT INTO sidestep.message_payloads (tenant_id, chat_id, id, raw)
    SELECT p_tenant, chat, id, payload::jsonb FROM unnest(v_chat, v_id, v_new, p_raw) i (chat, id, fresh, payload)
     WHERE fresh AND payload IS NOT NULL;
    INSERT INTO sidestep.decisions (tenant_id, chat_id, message_id, action_taken, detail, decided_at)
    SELECT p_tenant, chat, id, 'imported', CASE WHEN typ = 'undecryptable' THEN 'it could not be opened' END, p_now
      FROM unnest(v_chat, v_id, v_new, p_type) i (chat, id, fresh, typ) WHERE fresh;
    IF p_type && ARRAY['edit', 'revoke', 'reaction'] THEN
        PERFORM sidestep.await_targets(p_tenant, v_chat, v_id, v_new, p_type, p_reply_to, p_target_from_me, p_target_sender);
    END IF;
    IF EXISTS (SELECT FROM sidestep.early_changes e WHERE e.tenant_id = p_tenant AND e.external_id = ANY (p_external_id || p_reply_to)) THEN
        PERFORM sidestep.apply_changes(p_tenant, v_chat, p_external_id || p_reply_to);
    END IF;
    RETURN (SELECT count(*) FROM unnest(v_new) fresh WHERE fresh);
END $$;
COMMENT ON FUNCTION sidestep.record_past IS 'Records what was said before, each at its own time, without waking anything: no open decision, no takeover, no change of state. What of it comes live after all is heard then, by record. Returns how many were new.';

-- Imports ------------------------------------------------------------------------------------------------
-- What is imported goes the way of the past; here stands only what an import knows more than a phone.

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

-- An export that was imported before its number was linked has told what the phone's history then tells under WhatsApp's ids.

CREATE FUNCTION sidestep.content_key(p_type text, p_text text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN p_type IN ('location', 'contact', 'poll', 'system') THEN p_type
            ELSE CASE WHEN p_type IN ('image', 'video', 'audio', 'document', 'sticker', 'unknown') THEN 'medium ' ELSE 'text ' END
                 || btrim(translate(coalesce(p_text, ''), U&'\061C\200E\200F\202A\202B\202C\202D\202E\2066\2067\2068\2069\FEFF', ''), E' \n\t\r')
       END;
COMMENT ON FUNCTION sidestep.content_key IS 'What a message says, without what one way of telling it has and another has not: the kind of a file, marks of direction.';

CREATE FUNCTION sidestep.adopt_imports(p_tenant bigint, p_account bigint, p_channel text, p_jid text[], p_external_id text[], p_author text[],
    p_type text[], p_is_group boolean[], p_text text[], p_sent_at timestamptz[], p_raw text[])
RETURNS int LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    v_number int;
BEGIN
    WITH told AS MATERIALIZED (
        SELECT a.chat_id, i.ext, i.author = 'human' AS from_me, i.typ, i.raw, date_trunc('minute', i.at) AS minute,
               sidestep.content_key(i.typ, i.txt) AS content, i.o
          FROM unnest(p_jid, p_external_id, p_author, p_type, p_is_group, p_text, p_sent_at, p_raw) WITH ORDINALITY
               i (jid, ext, author, typ, grp, txt, at, raw, o)
          JOIN sidestep.chat_aliases a
            ON a.tenant_id = p_tenant AND a.account_id = p_account AND a.channel = p_channel AND a.jid = i.jid
         -- In groups an export knows people by names, the phone by addresses: nobody can tell whether they are the same.
         WHERE NOT i.grp AND NOT sidestep.is_change(i.typ)
           AND NOT EXISTS (SELECT FROM sidestep.message_keys k
                            WHERE k.tenant_id = p_tenant AND k.external_id = i.ext AND k.chat_id = a.chat_id)),
    here AS MATERIALIZED (
        SELECT m.chat_id, m.id, m.direction = 'outbound' AS from_me, t.minute, sidestep.content_key(m.type, m.text) AS content
          FROM (SELECT DISTINCT chat_id, minute FROM told) t
          JOIN sidestep.messages m ON m.tenant_id = p_tenant AND m.chat_id = t.chat_id -- what was imported has the id of its time
           AND m.id >= sidestep.id_floor(t.minute) AND m.id < sidestep.id_floor(t.minute + interval '1 minute')
         WHERE starts_with(m.external_id, 'import-') AND NOT sidestep.is_change(m.type)),
    paired AS MATERIALIZED (
        SELECT chat_id, from_me, t.ext, t.typ, t.raw, h.id
          FROM (SELECT *, row_number() OVER (PARTITION BY chat_id, from_me, content, minute ORDER BY o) AS n FROM told) t
          JOIN (SELECT *, row_number() OVER (PARTITION BY chat_id, from_me, content, minute ORDER BY id) AS n FROM here) h
         USING (chat_id, from_me, content, minute, n)),
    keyed AS (
        INSERT INTO sidestep.message_keys (tenant_id, chat_id, external_id, from_me, id)
        SELECT p_tenant, chat_id, ext, from_me, id FROM paired ON CONFLICT DO NOTHING),
    kept AS (
        INSERT INTO sidestep.message_payloads (tenant_id, chat_id, id, raw)
        SELECT p_tenant, chat_id, id, raw::jsonb FROM paired WHERE raw IS NOT NULL ON CONFLICT DO NOTHING)
    UPDATE sidestep.messages m SET external_id = p.ext, type = CASE WHEN m.type = 'unknown' THEN p.typ ELSE m.type END
      FROM paired p WHERE m.tenant_id = p_tenant AND m.chat_id = p.chat_id AND m.id = p.id;
    GET DIAGNOSTICS v_number = ROW_COUNT;
    RETURN v_number;
END $$;
COMMENT ON FUNCTION sidestep.adopt_imports IS 'Gives imported messages the ids under which the past tells them, by minute, side and words, so that it does not record them again. Returns how many.';
