-- migrate:up
-- Who is who: one person is a phone number and a LID, may be one of the people that another system has written down, and has
-- one chat with each number of ours.

-- People -------------------------------------------------------------------------------------------------
-- Who of them a contact is, is told by the number, in whatever format it was written down, or by the username.

CREATE FUNCTION sidestep.number_variants(p_number text) RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    -- Numbers of mobile phones that people and WhatsApp write in two ways: with and without a sign behind the country code.
    WHEN p_number ~ '^55\d{2}9\d{8}$' THEN ARRAY[p_number, overlay(p_number PLACING '' FROM 5 FOR 1)]
    WHEN p_number ~ '^55\d{10}$' THEN ARRAY[p_number, overlay(p_number PLACING '9' FROM 5 FOR 0)]
    WHEN p_number ~ '^(521|549)\d{10}$' THEN ARRAY[p_number, overlay(p_number PLACING '' FROM 3 FOR 1)]
    WHEN p_number ~ '^52\d{10}$' THEN ARRAY[p_number, overlay(p_number PLACING '1' FROM 3 FOR 0)]
    WHEN p_number ~ '^54\d{10}$' THEN ARRAY[p_number, overlay(p_number PLACING '9' FROM 3 FOR 0)]
    WHEN p_number <> '' THEN ARRAY[p_number]
    ELSE '{}' END;
COMMENT ON FUNCTION sidestep.number_variants IS 'The digits of a number, and where its country writes it in two ways, the other one.';

CREATE FUNCTION sidestep.username_of(p_jid text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN substring(p_jid FROM '^(.+)@(?:telegram|email|discord|signal|wechat)$');
COMMENT ON FUNCTION sidestep.username_of IS 'The username in an address of a platform that knows no numbers; null: it is another''s.';

CREATE FUNCTION sidestep.folded(p_text text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN octet_length(p_text) = char_length(p_text) THEN lower(p_text)
            ELSE translate(lower(regexp_replace(normalize(p_text, NFKD), '[\u0300-\u036F]+', '', 'g')), 'ıłøđ', 'ilod') END;
COMMENT ON FUNCTION sidestep.folded IS 'A name as people type it: small letters, no accents.';

CREATE FUNCTION sidestep.person_of(p_tenant bigint, p_phone text, p_jid text) RETURNS uuid LANGUAGE sql STABLE
RETURN coalesce(
    (SELECT p.person_id FROM sidestep.people p WHERE p.tenant_id = p_tenant AND p.number = ANY (sidestep.number_variants(p_phone))
      ORDER BY p.created_at, p.person_id LIMIT 1),
    (SELECT p.person_id FROM sidestep.people p WHERE p.tenant_id = p_tenant AND lower(ltrim(p.username, '@')) = lower(sidestep.username_of(p_jid))
      ORDER BY p.created_at, p.person_id LIMIT 1));
COMMENT ON FUNCTION sidestep.person_of IS 'Who of the people has this number or this username; of several the one who was written down first.';

CREATE FUNCTION sidestep.match_contact() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' OR (NEW.phone, NEW.jid) IS DISTINCT FROM (OLD.phone, OLD.jid) THEN
        NEW.person_id := sidestep.person_of(NEW.tenant_id, NEW.phone, NEW.jid);
    END IF;
    RETURN NEW;
END $$;
COMMENT ON FUNCTION sidestep.match_contact IS 'A contact who is new, or whose number has only now become known, may be one of the people. Who was linked stays so.';
CREATE TRIGGER match_contact BEFORE INSERT OR UPDATE OF phone, jid ON sidestep.contacts
    FOR EACH ROW WHEN (NEW.person_id IS NULL) EXECUTE FUNCTION sidestep.match_contact();

CREATE FUNCTION sidestep.read_phone() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- Without its country code, or with what is left out abroad, it takes to know how numbers are written: the daemon does.
    NEW.number := CASE WHEN NEW.phone ~ '^\s*(\+|00)[\s\d()./-]+$' AND strpos(NEW.phone, '(0)') = 0 THEN regexp_replace(NEW.phone, '^\s*00|\D', '', 'g') END;
    RETURN NEW;
END $$;
COMMENT ON FUNCTION sidestep.read_phone IS 'Reads a number that has its country code with it.';
CREATE TRIGGER read_phone BEFORE INSERT OR UPDATE OF phone ON sidestep.people FOR EACH ROW EXECUTE FUNCTION sidestep.read_phone();

CREATE FUNCTION sidestep.match_person() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE sidestep.contacts c SET person_id = NEW.person_id, updated_at = NEW.updated_at
     WHERE c.tenant_id = NEW.tenant_id AND c.person_id IS NULL
       AND (c.phone = ANY (sidestep.number_variants(NEW.number)) OR c.jid = ANY (ARRAY(
            SELECT lower(ltrim(NEW.username, '@')) || '@' || x FROM unnest(ARRAY['telegram', 'email', 'discord', 'signal', 'wechat']) x)));
    RETURN NULL;
END $$;
COMMENT ON FUNCTION sidestep.match_person IS 'Somebody who was written down may have written here already. Contacts who are linked stay so.';
CREATE TRIGGER match_person AFTER INSERT OR UPDATE OF phone, number, username ON sidestep.people
    FOR EACH ROW EXECUTE FUNCTION sidestep.match_person();

-- Contacts -----------------------------------------------------------------------------------------------

CREATE FUNCTION sidestep.merge_contacts(p_tenant bigint, p_keep bigint, p_gone bigint, p_now timestamptz) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_gone sidestep.contacts;
BEGIN
    -- By chat and by group, which have indexes; by sender alone it would read every message of the tenant.
    UPDATE sidestep.messages SET sender_id = p_keep
     WHERE tenant_id = p_tenant AND sender_id = p_gone
       AND chat_id IN (SELECT chat_id FROM sidestep.chats WHERE tenant_id = p_tenant AND contact_id IN (p_keep, p_gone));
    UPDATE sidestep.messages SET sender_id = p_keep WHERE tenant_id = p_tenant AND sender_id = p_gone AND is_group;
    UPDATE sidestep.chats SET contact_id = p_keep, updated_at = p_now WHERE tenant_id = p_tenant AND contact_id = p_gone;
    -- A key that the other one already has stays behind: the same message, seen under both addresses.
    UPDATE sidestep.message_keys k SET sender_id = p_keep
     WHERE k.tenant_id = p_tenant AND k.sender_id = p_gone AND k.sender_id <> 0
       AND NOT EXISTS (SELECT FROM sidestep.message_keys o
                        WHERE (o.tenant_id, o.external_id, o.chat_id, o.from_me, o.sender_id)
                            = (k.tenant_id, k.external_id, k.chat_id, k.from_me, p_keep));
    -- Of what both have shown at one message the later one stands.
    DELETE FROM sidestep.reactions r USING sidestep.reactions o
     WHERE r.tenant_id = p_tenant AND r.sender_id IN (p_keep, p_gone) AND o.tenant_id = p_tenant AND o.sender_id IN (p_keep, p_gone)
       AND (r.chat_id, r.id, r.from_me) = (o.chat_id, o.id, o.from_me) AND (r.reacted_at, r.reaction_id) < (o.reacted_at, o.reaction_id);
    UPDATE sidestep.reactions SET sender_id = p_keep WHERE tenant_id = p_tenant AND sender_id = p_gone;
    DELETE FROM sidestep.contacts WHERE tenant_id = p_tenant AND contact_id = p_gone RETURNING * INTO v_gone;
    UPDATE sidestep.contacts
       SET jid = coalesce(jid, v_gone.jid), lid = coalesce(lid, v_gone.lid), phone = coalesce(phone, v_gone.phone),
           push_name = coalesce(push_name, v_gone.push_name), person_id = coalesce(person_id, v_gone.person_id), updated_at = p_now
     WHERE tenant_id = p_tenant AND contact_id = p_keep;
    -- What the one wrote is the other's to change.
    PERFORM sidestep.apply_changes(p_tenant, array_agg(e.chat_id), array_agg(e.external_id))
       FROM sidestep.early_changes e JOIN sidestep.messages m ON (m.tenant_id, m.chat_id, m.id) = (e.tenant_id, e.chat_id, e.id)
      WHERE e.tenant_id = p_tenant AND m.sender_id = p_keep HAVING count(*) > 0;
END $$;
COMMENT ON FUNCTION sidestep.merge_contacts IS 'Two contacts turned out to be one person.';

CREATE FUNCTION sidestep.identify_contact(p_tenant bigint, p_jid text, p_alt text, p_name text, p_now timestamptz)
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_lid text := CASE WHEN p_jid LIKE '%@lid' THEN p_jid WHEN p_alt LIKE '%@lid' THEN p_alt END;
    v_jid text := CASE WHEN p_jid NOT LIKE '%@lid' THEN p_jid ELSE p_alt END;
    v_phone text := CASE WHEN v_jid LIKE '%@s.whatsapp.net' THEN split_part(v_jid, '@', 1) END;
    v_by_jid bigint;
    v_by_lid bigint;
    v_found bigint;
    v_other_lid text;
BEGIN
    LOOP
        SELECT contact_id, lid INTO v_by_jid, v_other_lid FROM sidestep.contacts WHERE tenant_id = p_tenant AND jid = v_jid;
        SELECT contact_id INTO v_by_lid FROM sidestep.contacts WHERE tenant_id = p_tenant AND lid = v_lid;
        IF v_by_jid <> v_by_lid AND v_other_lid <> v_lid THEN
            -- Two people, each known by a LID of their own: the number has passed from the one to the other.
            UPDATE sidestep.contacts SET jid = NULL, phone = NULL, updated_at = p_now
             WHERE tenant_id = p_tenant AND contact_id = v_by_jid;
            UPDATE sidestep.contacts SET jid = v_jid, phone = v_phone, updated_at = p_now
             WHERE tenant_id = p_tenant AND contact_id = v_by_lid;
            v_by_jid := v_by_lid;
        ELSIF v_by_jid <> v_by_lid THEN
            PERFORM sidestep.merge_contacts(p_tenant, least(v_by_jid, v_by_lid), greatest(v_by_jid, v_by_lid), p_now);
        END IF;
        v_found := least(v_by_jid, v_by_lid);
        EXIT WHEN v_found IS NOT NULL;
        INSERT INTO sidestep.contacts (tenant_id, jid, lid, phone, push_name, created_at, updated_at)
        VALUES (p_tenant, v_jid, v_lid, v_phone, p_name, p_now, p_now) ON CONFLICT DO NOTHING
        RETURNING contact_id INTO v_found;
        EXIT WHEN v_found IS NOT NULL; -- else another session has just made it: look again
    END LOOP;
    UPDATE sidestep.contacts
       SET jid = coalesce(jid, v_jid), lid = coalesce(lid, v_lid), phone = coalesce(phone, v_phone),
           push_name = coalesce(p_name, push_name), updated_at = p_now
     WHERE tenant_id = p_tenant AND contact_id = v_found
       AND ((jid IS NULL AND v_jid IS NOT NULL) OR (lid IS NULL AND v_lid IS NOT NULL) OR push_name IS DISTINCT FROM coalesce(p_name, push_name));
    RETURN v_found;
END $$;
COMMENT ON FUNCTION sidestep.identify_contact IS 'The one contact behind a phone number, a LID or both; made, completed or merged as needed.';

-- Chats --------------------------------------------------------------------------------------------------

CREATE FUNCTION sidestep.chat_now(p_tenant bigint, p_chat bigint) RETURNS bigint
LANGUAGE sql STABLE
RETURN coalesce((SELECT merged_into FROM sidestep.chats WHERE tenant_id = p_tenant AND chat_id = p_chat), p_chat);
COMMENT ON FUNCTION sidestep.chat_now IS 'The chat that a chat is by now: whoever still holds the id of one that was merged means the other.';

CREATE FUNCTION sidestep.hold_chat(p_tenant bigint, p_chat bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_chat bigint := p_chat;
BEGIN
    LOOP
        PERFORM FROM sidestep.chat_state WHERE tenant_id = p_tenant AND chat_id = v_chat FOR KEY SHARE;
        EXIT WHEN FOUND OR v_chat = sidestep.chat_now(p_tenant, v_chat);
        v_chat := sidestep.chat_now(p_tenant, v_chat);
    END LOOP;
    RETURN v_chat;
END $$;
COMMENT ON FUNCTION sidestep.hold_chat IS 'The chat that a chat is by now, and so until the transaction ends: a merge waits, all else goes on.';

CREATE FUNCTION sidestep.is_past(p_tenant bigint, p_chat bigint, p_id bigint) RETURNS boolean
LANGUAGE sql STABLE
RETURN EXISTS (SELECT FROM sidestep.decisions d WHERE d.tenant_id = p_tenant AND d.chat_id = p_chat AND d.message_id = p_id
                  AND d.event_type = 'message' AND d.action_taken = 'imported')
   AND NOT EXISTS (SELECT FROM sidestep.decisions d WHERE d.tenant_id = p_tenant AND d.chat_id = p_chat AND d.message_id = p_id
                      AND d.event_type = 'live');
COMMENT ON FUNCTION sidestep.is_past IS 'Whether only the past has told of a message: it did not come live yet, and nothing was done about it.';

CREATE FUNCTION sidestep.duplicates(p_tenant bigint, p_chat bigint, p_other bigint) RETURNS SETOF sidestep.message_keys
LANGUAGE sql STABLE AS $$
    SELECT k.* FROM sidestep.message_keys k JOIN sidestep.message_keys o
        ON (o.tenant_id, o.external_id, o.from_me, o.sender_id) = (k.tenant_id, k.external_id, k.from_me, k.sender_id)
     WHERE k.tenant_id = p_tenant AND (k.chat_id, o.chat_id) IN ((p_chat, p_other), (p_other, p_chat))
       AND (sidestep.is_past(p_tenant, k.chat_id, k.id), k.id) > (sidestep.is_past(p_tenant, o.chat_id, o.id), o.id)
$$;
COMMENT ON FUNCTION sidestep.duplicates IS 'Of the messages that stand in both chats the copy that gives way: what came live outlasts what the past has told, the older the younger.';

CREATE FUNCTION sidestep.merge_chats(p_tenant bigint, p_keep bigint, p_gone bigint, p_now timestamptz) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_gone sidestep.chat_state;
    v_keep sidestep.chat_state;
BEGIN
    PERFORM FROM sidestep.chat_state WHERE tenant_id = p_tenant AND chat_id IN (p_keep, p_gone) ORDER BY chat_id FOR UPDATE;
    SELECT * INTO v_keep FROM sidestep.chat_state WHERE tenant_id = p_tenant AND chat_id = p_keep;
    SELECT * INTO v_gone FROM sidestep.chat_state WHERE tenant_id = p_tenant AND chat_id = p_gone;

    -- The same message, received under both addresses: one copy is a duplicate, and so decided if it was not yet.
    UPDATE sidestep.decisions d SET action_taken = 'duplicate', decided_at = p_now, detail = 'received under both addresses'
      FROM sidestep.duplicates(p_tenant, p_keep, p_gone) k
     WHERE (d.tenant_id, d.chat_id, d.message_id) = (k.tenant_id, k.chat_id, k.id) AND d.action_taken IS NULL;
    DELETE FROM sidestep.message_keys k USING sidestep.duplicates(p_tenant, p_keep, p_gone) g
     WHERE (k.tenant_id, k.external_id, k.chat_id, k.from_me, k.sender_id) = (g.tenant_id, g.external_id, g.chat_id, g.from_me, g.sender_id);

    UPDATE sidestep.threads SET status = 'archived', archived_at = p_now
     WHERE tenant_id = p_tenant AND thread_id = least(v_keep.active_thread_id, v_gone.active_thread_id)
       AND v_keep.active_thread_id IS NOT NULL AND v_gone.active_thread_id IS NOT NULL;
    UPDATE sidestep.threads SET chat_id = p_keep WHERE tenant_id = p_tenant AND chat_id = p_gone;
    UPDATE sidestep.message_keys SET chat_id = p_keep WHERE tenant_id = p_tenant AND chat_id = p_gone;
    UPDATE sidestep.messages SET chat_id = p_keep WHERE tenant_id = p_tenant AND chat_id = p_gone;
    UPDATE sidestep.message_payloads SET chat_id = p_keep WHERE tenant_id = p_tenant AND chat_id = p_gone;
    UPDATE sidestep.message_versions SET chat_id = p_keep WHERE tenant_id = p_tenant AND chat_id = p_gone;
    UPDATE sidestep.reactions SET chat_id = p_keep WHERE tenant_id = p_tenant AND chat_id = p_gone;
    UPDATE sidestep.early_changes SET chat_id = p_keep WHERE tenant_id = p_tenant AND chat_id = p_gone;
    UPDATE sidestep.decisions SET chat_id = p_keep WHERE tenant_id = p_tenant AND chat_id = p_gone;
    UPDATE sidestep.outbox SET chat_id = p_keep WHERE tenant_id = p_tenant AND chat_id = p_gone;
    UPDATE sidestep.chat_aliases SET chat_id = p_keep WHERE tenant_id = p_tenant AND chat_id = p_gone;

    -- What both remember lives on in one thread: the younger one takes over the messages of the older, and its beginning.
    IF v_keep.active_thread_id IS NOT NULL AND v_gone.active_thread_id IS NOT NULL THEN
        UPDATE sidestep.threads t
           SET created_at = (SELECT min(o.created_at) FROM sidestep.threads o
                              WHERE o.tenant_id = p_tenant AND o.thread_id IN (v_keep.active_thread_id, v_gone.active_thread_id))
         WHERE t.tenant_id = p_tenant AND t.thread_id = greatest(v_keep.active_thread_id, v_gone.active_thread_id);
        UPDATE sidestep.messages SET thread_id = greatest(v_keep.active_thread_id, v_gone.active_thread_id)
         WHERE tenant_id = p_tenant AND chat_id = p_keep
           AND thread_id = least(v_keep.active_thread_id, v_gone.active_thread_id);
    END IF;

    -- A pause wins, and the epoch passes both, so that no answer begun in either is still sent.
    UPDATE sidestep.chat_state
       SET epoch = greatest(v_keep.epoch, v_gone.epoch) + 1,
           is_paused = v_keep.is_paused OR v_gone.is_paused,
           pause_reason = coalesce(v_keep.pause_reason, v_gone.pause_reason),
           paused_at = coalesce(v_keep.paused_at, v_gone.paused_at),
           paused_until = CASE WHEN v_keep.is_paused AND v_gone.is_paused THEN
                                    CASE WHEN v_keep.paused_until IS NULL OR v_gone.paused_until IS NULL THEN NULL
                                         ELSE greatest(v_keep.paused_until, v_gone.paused_until) END
                               ELSE coalesce(v_keep.paused_until, v_gone.paused_until) END,
           last_human_at = greatest(v_keep.last_human_at, v_gone.last_human_at),
           last_human_id = CASE WHEN v_keep.last_human_at IS NULL OR v_gone.last_human_at > v_keep.last_human_at THEN v_gone.last_human_id
                                ELSE v_keep.last_human_id END,
           is_excluded = v_keep.is_excluded OR v_gone.is_excluded, excluded_at = greatest(v_keep.excluded_at, v_gone.excluded_at),
           auto_resume_after = coalesce(v_keep.auto_resume_after, v_gone.auto_resume_after),
           resume_mode = CASE WHEN 'from_now' IN (v_keep.resume_mode, v_gone.resume_mode) THEN 'from_now' ELSE 'from_last' END,
           away_until = greatest(v_keep.away_until, v_gone.away_until),
           opted_out_at = coalesce(v_keep.opted_out_at, v_gone.opted_out_at), opted_at = greatest(v_keep.opted_at, v_gone.opted_at),
           active_thread_id = greatest(v_keep.active_thread_id, v_gone.active_thread_id),
           reply_jid = CASE WHEN v_gone.last_message_id > v_keep.last_message_id THEN v_gone.reply_jid ELSE v_keep.reply_jid END,
           last_message_id = greatest(v_keep.last_message_id, v_gone.last_message_id),
           last_message_at = greatest(v_keep.last_message_at, v_gone.last_message_at)
     WHERE tenant_id = p_tenant AND chat_id = p_keep;
    -- What is queued in either is still owed, unless the one that was silent makes both so, or a human has spoken in the other
    -- after what it answers.
    UPDATE sidestep.outbox o SET epoch = s.epoch FROM sidestep.chat_state s
     WHERE o.tenant_id = p_tenant AND o.chat_id = p_keep AND o.status = 'queued' AND o.epoch IS NOT NULL
       AND s.tenant_id = p_tenant AND s.chat_id = p_keep
       AND NOT s.is_paused AND NOT s.is_excluded AND s.opted_out_at IS NULL
       AND o.queued_at > coalesce(s.last_human_at, '-infinity')
       AND NOT EXISTS (SELECT FROM sidestep.messages q WHERE q.tenant_id = p_tenant AND q.chat_id = p_keep AND q.id = ANY (o.answers)
                          AND (q.sent_at, q.id) <= (s.last_human_at, coalesce(s.last_human_id, 0)));
    PERFORM sidestep.drop_answers(p_tenant, ARRAY[p_keep], 'two chats became one, and in the other the bot was silent, or a human spoke');
    DELETE FROM sidestep.chat_state WHERE tenant_id = p_tenant AND chat_id = p_gone;
    UPDATE sidestep.chats SET merged_into = p_keep, contact_id = NULL, updated_at = p_now
     WHERE tenant_id = p_tenant AND (chat_id = p_gone OR merged_into = p_gone);

    -- What was changed in the one may have been written in the other, or have a copy there that now stands for both.
    INSERT INTO sidestep.early_changes (tenant_id, chat_id, external_id, id)
    SELECT m.tenant_id, m.chat_id, m.reply_to, m.id
      FROM sidestep.messages m
      JOIN sidestep.message_keys k ON (k.tenant_id, k.external_id, k.chat_id, k.id) = (m.tenant_id, m.external_id, m.chat_id, m.id)
     WHERE m.tenant_id = p_tenant AND m.chat_id = p_keep AND sidestep.is_change(m.type) AND m.reply_to IS NOT NULL
    ON CONFLICT DO NOTHING;
    PERFORM sidestep.apply_changes(p_tenant, ARRAY[p_keep], ARRAY(
        SELECT external_id FROM sidestep.early_changes WHERE tenant_id = p_tenant AND chat_id = p_keep));
END $$;
COMMENT ON FUNCTION sidestep.merge_chats IS 'Two chats turned out to be with one person: messages, threads, pauses and keys of both become one chat''s.';

CREATE FUNCTION sidestep.identify_chat(p_tenant bigint, p_account bigint, p_channel text, p_jid text, p_alt text,
    p_is_group boolean, p_name text, p_now timestamptz)
RETURNS TABLE (chat_id bigint, gone_chat_id bigint) LANGUAGE plpgsql AS $$
DECLARE
    v_contact bigint;
    v_alt text := p_alt;
    v_by_jid bigint;
    v_by_alt bigint;
    v_strangers bigint;
BEGIN
    -- One at a time: two daemons that learn of the same person at once must not make two chats.
    PERFORM pg_advisory_xact_lock(hashtextextended('sidestep.identify', p_tenant));
    IF NOT p_is_group THEN
        v_contact := sidestep.identify_contact(p_tenant, p_jid, p_alt, p_name, p_now);
        SELECT coalesce(p_alt, CASE WHEN c.jid = p_jid THEN c.lid ELSE c.jid END) INTO v_alt
          FROM sidestep.contacts c WHERE c.tenant_id = p_tenant AND c.contact_id = v_contact;
    END IF;
    SELECT a.chat_id INTO v_by_jid FROM sidestep.chat_aliases a
     WHERE a.tenant_id = p_tenant AND a.account_id = p_account AND a.channel = p_channel AND a.jid = p_jid;
    SELECT a.chat_id INTO v_by_alt FROM sidestep.chat_aliases a
     WHERE a.tenant_id = p_tenant AND a.account_id = p_account AND a.channel = p_channel AND a.jid = v_alt;
    chat_id := least(v_by_jid, v_by_alt);
    SELECT c.chat_id INTO v_strangers FROM sidestep.chats c
     WHERE c.tenant_id = p_tenant AND c.chat_id IN (v_by_jid, v_by_alt) AND c.contact_id <> v_contact;
    IF v_by_jid <> v_by_alt AND v_strangers IS NOT NULL THEN
        -- The number was somebody else's before: their chat stays theirs, the address goes along with the number.
        chat_id := v_by_jid + v_by_alt - v_strangers;
        UPDATE sidestep.chat_aliases a SET chat_id = identify_chat.chat_id
         WHERE a.tenant_id = p_tenant AND a.account_id = p_account AND a.channel = p_channel
           AND a.jid IN (p_jid, v_alt) AND a.chat_id = v_strangers;
    ELSIF v_by_jid <> v_by_alt THEN
        gone_chat_id := greatest(v_by_jid, v_by_alt);
        PERFORM sidestep.merge_chats(p_tenant, chat_id, gone_chat_id, p_now);
    ELSIF chat_id IS NULL THEN
        INSERT INTO sidestep.chats (tenant_id, account_id, channel, jid, is_group, name, contact_id, created_at, updated_at)
        VALUES (p_tenant, p_account, p_channel, p_jid, p_is_group, CASE WHEN p_is_group THEN p_name END, v_contact, p_now, p_now)
        RETURNING chats.chat_id INTO chat_id;
        INSERT INTO sidestep.chat_state (tenant_id, chat_id, reply_jid) VALUES (p_tenant, chat_id, p_jid);
    END IF;
    INSERT INTO sidestep.chat_aliases (tenant_id, account_id, channel, jid, chat_id)
    SELECT p_tenant, p_account, p_channel, j, chat_id FROM unnest(ARRAY[p_jid, v_alt]) j WHERE j IS NOT NULL
    ON CONFLICT DO NOTHING;
    RETURN NEXT;
END $$;
COMMENT ON FUNCTION sidestep.identify_chat IS 'The one chat behind an address, made or merged as needed; gone_chat_id is a chat that has just been merged into it.';

CREATE FUNCTION sidestep.identify_sender(p_tenant bigint, p_account bigint, p_channel text, p_jid text, p_alt text, p_name text, p_now timestamptz)
RETURNS TABLE (chat_id bigint, gone_chat_id bigint) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('sidestep.identify', p_tenant));
    PERFORM sidestep.identify_contact(p_tenant, p_jid, p_alt, p_name, p_now);
    -- Someone who also writes to us alone: what the group has told of them may join two chats.
    IF p_alt IS NOT NULL AND EXISTS (
        SELECT FROM sidestep.chat_aliases a
         WHERE a.tenant_id = p_tenant AND a.account_id = p_account AND a.channel = p_channel AND a.jid IN (p_jid, p_alt)) THEN
        RETURN QUERY SELECT * FROM sidestep.identify_chat(p_tenant, p_account, p_channel, p_jid, p_alt, false, p_name, p_now);
    END IF;
END $$;
COMMENT ON FUNCTION sidestep.identify_sender IS 'The contact who wrote in a group; it makes no chat, but may find that two are one.';

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
