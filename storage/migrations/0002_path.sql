-- migrate:up
-- The hot path as functions: one call, one commit. Every name is qualified, so that no search_path is needed.

-- Ids and months ----------------------------------------------------------------------------------------

CREATE FUNCTION sidestep.milliseconds(p_at timestamptz) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (extract(epoch FROM p_at) * 1000)::bigint - 1577836800000;
COMMENT ON FUNCTION sidestep.milliseconds IS 'Milliseconds since 2020-01-01 UTC.';

CREATE FUNCTION sidestep.id_floor(p_at timestamptz) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN sidestep.milliseconds(p_at) << 20;
COMMENT ON FUNCTION sidestep.id_floor IS 'The smallest message id of a moment.';

CREATE FUNCTION sidestep.ensure_months(p_from timestamptz, p_to timestamptz) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_month timestamp;
    v_table text;
    v_name text;
BEGIN
    FOR v_month IN SELECT generate_series(date_trunc('month', p_from AT TIME ZONE 'UTC'), p_to AT TIME ZONE 'UTC',
                                          interval '1 month') LOOP
        FOREACH v_table IN ARRAY ARRAY['messages', 'message_payloads', 'message_versions', 'reactions', 'decisions'] LOOP
            v_name := v_table || '_' || to_char(v_month, 'YYYYMM');
            CONTINUE WHEN to_regclass('sidestep.' || v_name) IS NOT NULL;
            PERFORM pg_advisory_xact_lock(hashtext('sidestep.ensure_months'));
            EXECUTE format('CREATE TABLE IF NOT EXISTS sidestep.%I PARTITION OF sidestep.%I FOR VALUES FROM (%s) TO (%s)',
                           v_name, v_table, sidestep.id_floor(v_month AT TIME ZONE 'UTC'),
                           sidestep.id_floor((v_month + interval '1 month') AT TIME ZONE 'UTC'));
        END LOOP;
    END LOOP;
END $$;
COMMENT ON FUNCTION sidestep.ensure_months IS 'Makes the months of a span. There is no default partition: it would disable ordered scans over the months.';

-- Changing what was said --------------------------------------------------------------------------------

CREATE FUNCTION sidestep.is_change(p_type text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN p_type IN ('edit', 'revoke', 'reaction');
COMMENT ON FUNCTION sidestep.is_change IS 'Whether a message says nothing of its own, but changes another.';

CREATE FUNCTION sidestep.apply_edit(p_tenant bigint, p_chat bigint, p_id bigint, p_edit bigint, p_text text, p_at timestamptz) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO sidestep.message_versions (tenant_id, chat_id, id, version_id, text, written_at)
    SELECT m.tenant_id, m.chat_id, m.id, m.id, m.text, m.sent_at FROM sidestep.messages m
     WHERE m.tenant_id = p_tenant AND m.chat_id = p_chat AND m.id = p_id
     UNION ALL VALUES (p_tenant, p_chat, p_id, p_edit, p_text, p_at)
    ON CONFLICT DO NOTHING;
    -- The newest text that could be read, any edit's before the first; from all versions, so that their order of arrival is nothing.
    UPDATE sidestep.messages m SET text = v.text, edited_at = v.edited_at
      FROM (SELECT (array_agg(o.text ORDER BY o.version_id <> o.id DESC, o.written_at DESC, o.version_id DESC) FILTER (WHERE o.text IS NOT NULL))[1] AS text,
                   max(o.written_at) FILTER (WHERE o.version_id <> o.id) AS edited_at
              FROM sidestep.message_versions o WHERE o.tenant_id = p_tenant AND o.chat_id = p_chat AND o.id = p_id) v
     WHERE m.tenant_id = p_tenant AND m.chat_id = p_chat AND m.id = p_id;
END $$;
COMMENT ON FUNCTION sidestep.apply_edit IS 'Keeps an edit''s text, and what was there before, and shows the newest.';

CREATE FUNCTION sidestep.apply_revoke(p_tenant bigint, p_chat bigint, p_id bigint, p_revoke bigint, p_at timestamptz) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE sidestep.messages SET deleted_at = p_at, deleted_by = p_revoke
     WHERE tenant_id = p_tenant AND chat_id = p_chat AND id = p_id
       AND (deleted_at IS NULL OR (p_at, p_revoke) < (deleted_at, deleted_by));
    UPDATE sidestep.outbox o SET status = 'cancelled', due_at = NULL, error = 'what it answers was revoked'
     WHERE o.tenant_id = p_tenant AND o.chat_id = p_chat AND o.status = 'queued' AND o.sent_at IS NULL
       AND o.epoch IS NOT NULL AND NOT o.is_command_answer AND p_id = ANY (o.answers)
       AND NOT EXISTS (SELECT FROM sidestep.messages m
                        WHERE m.tenant_id = p_tenant AND m.chat_id = p_chat AND m.id = ANY (o.answers) AND m.deleted_at IS NULL);
END $$;
COMMENT ON FUNCTION sidestep.apply_revoke IS 'Marks a message as deleted, by the first revoke of it, and cancels an answer that is left without a question.';

CREATE FUNCTION sidestep.apply_reaction(p_tenant bigint, p_chat bigint, p_id bigint, p_from_me boolean, p_sender bigint, p_reaction bigint, p_text text, p_at timestamptz)
RETURNS void LANGUAGE sql AS $$
    INSERT INTO sidestep.reactions AS r (tenant_id, chat_id, id, from_me, sender_id, emoji, reaction_id, reacted_at)
    SELECT p_tenant, p_chat, p_id, p_from_me, p_sender, nullif(p_text, ''), p_reaction, p_at WHERE p_text IS NOT NULL
    ON CONFLICT (tenant_id, chat_id, id, from_me, sender_id) DO UPDATE
       SET emoji = excluded.emoji, reaction_id = excluded.reaction_id, reacted_at = excluded.reacted_at
     WHERE (excluded.reacted_at, excluded.reaction_id) > (r.reacted_at, r.reaction_id)
$$;
COMMENT ON FUNCTION sidestep.apply_reaction IS 'Shows a person''s newest reaction; an empty one takes it back, null could not be read.';

CREATE FUNCTION sidestep.apply_changes(p_tenant bigint, p_chats bigint[], p_external_ids text[])
RETURNS TABLE (chat_id bigint, change_id bigint, target_id bigint) LANGUAGE plpgsql ROWS 10 AS $$
DECLARE
    v_change record;
BEGIN
    FOR v_change IN
        SELECT c.chat_id, c.id, c.type, c.text, c.sent_at, e.external_id, by.from_me, by.sender_id, t.id AS target
          FROM sidestep.early_changes e
          JOIN sidestep.messages c ON c.tenant_id = p_tenant AND c.chat_id = e.chat_id AND c.id = e.id,
               LATERAL (SELECT c.author = 'human' AS from_me,
                               CASE WHEN c.is_group AND c.author = 'customer' THEN coalesce(c.sender_id, 0) ELSE 0 END AS sender_id) by,
               LATERAL (SELECT k.id
                          FROM sidestep.message_keys k
                          JOIN sidestep.messages m ON m.tenant_id = p_tenant AND m.chat_id = k.chat_id AND m.id = k.id
                          LEFT JOIN sidestep.contacts p ON p.tenant_id = p_tenant AND p.contact_id = k.sender_id
                         WHERE k.tenant_id = p_tenant AND k.external_id = e.external_id AND k.chat_id = e.chat_id
                           AND NOT sidestep.is_change(m.type)
                           -- Who wrote a message may change it; in groups an admin may revoke it, and who is one we do not know.
                           AND ((k.from_me, k.sender_id) = (by.from_me, by.sender_id) OR c.type = 'reaction' OR (c.type = 'revoke' AND c.is_group))
                         ORDER BY k.from_me = e.target_from_me DESC NULLS LAST, e.target_sender IN (p.jid, p.lid) DESC NULLS LAST, k.id
                         LIMIT 1) t
         WHERE e.tenant_id = p_tenant AND e.chat_id = ANY (p_chats) AND e.external_id = ANY (p_external_ids)
         ORDER BY c.id
    LOOP
        CASE v_change.type
            WHEN 'edit' THEN
                PERFORM sidestep.apply_edit(p_tenant, v_change.chat_id, v_change.target, v_change.id, v_change.text, v_change.sent_at);
            WHEN 'revoke' THEN
                PERFORM sidestep.apply_revoke(p_tenant, v_change.chat_id, v_change.target, v_change.id, v_change.sent_at);
            ELSE
                PERFORM sidestep.apply_reaction(p_tenant, v_change.chat_id, v_change.target, v_change.from_me, v_change.sender_id,
                                                v_change.id, v_change.text, v_change.sent_at);
        END CASE;
        DELETE FROM sidestep.early_changes e
         WHERE e.tenant_id = p_tenant AND e.external_id = v_change.external_id AND e.chat_id = v_change.chat_id AND e.id = v_change.id;
        chat_id := v_change.chat_id;
        change_id := v_change.id;
        target_id := v_change.target;
        RETURN NEXT;
    END LOOP;
END $$;
COMMENT ON FUNCTION sidestep.apply_changes IS 'Applies what waits to change these messages, each once, whoever came first. Returns what was changed.';

-- Identity ----------------------------------------------------------------------------------------------

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
           push_name = coalesce(push_name, v_gone.push_name), updated_at = p_now
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
     WHERE (d.tenant_id, d.chat_id, d.message_id) = (k.tenant_id, k.chat_id, k.id) AND d.event_type IN ('message', 'live') AND d.action_taken IS NULL;
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
           last_human_id = greatest(v_keep.last_human_id, v_gone.last_human_id),
           is_excluded = v_keep.is_excluded OR v_gone.is_excluded,
           opted_out_at = coalesce(v_keep.opted_out_at, v_gone.opted_out_at),
           active_thread_id = greatest(v_keep.active_thread_id, v_gone.active_thread_id),
           reply_jid = CASE WHEN v_gone.last_message_id > v_keep.last_message_id THEN v_gone.reply_jid ELSE v_keep.reply_jid END,
           last_message_id = greatest(v_keep.last_message_id, v_gone.last_message_id),
           last_message_at = greatest(v_keep.last_message_at, v_gone.last_message_at)
     WHERE tenant_id = p_tenant AND chat_id = p_keep;
    -- What is queued in either is still owed, unless the one that was silent makes both so.
    UPDATE sidestep.outbox o SET epoch = s.epoch FROM sidestep.chat_state s
     WHERE o.tenant_id = p_tenant AND o.chat_id = p_keep AND o.status = 'queued' AND o.epoch IS NOT NULL
       AND s.tenant_id = p_tenant AND s.chat_id = p_keep
       AND NOT s.is_paused AND NOT s.is_excluded AND s.opted_out_at IS NULL;
    IF NOT FOUND THEN
        UPDATE sidestep.outbox SET status = 'cancelled', due_at = NULL, error = 'two chats became one, and one of them was silent'
         WHERE tenant_id = p_tenant AND chat_id = p_keep AND status = 'queued' AND epoch IS NOT NULL;
    END IF;
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

-- Recording ---------------------------------------------------------------------------------------------

CREATE FUNCTION sidestep.open_threads(p_tenant bigint, p_chats bigint[], p_now timestamptz) RETURNS void
LANGUAGE sql AS $$
    WITH made AS (
        INSERT INTO sidestep.threads (tenant_id, chat_id, created_at)
        SELECT s.tenant_id, s.chat_id, p_now FROM sidestep.chat_state s
         WHERE s.tenant_id = p_tenant AND s.chat_id = ANY (p_chats) AND s.active_thread_id IS NULL
        RETURNING chat_id, thread_id)
    UPDATE sidestep.chat_state s SET active_thread_id = made.thread_id FROM made
     WHERE s.tenant_id = p_tenant AND s.chat_id = made.chat_id
$$;
COMMENT ON FUNCTION sidestep.open_threads IS 'Gives each chat an active thread. The caller holds the chats'' state rows, so that only one session makes it.';

CREATE FUNCTION sidestep.await_targets(p_tenant bigint, p_chats bigint[], p_ids bigint[], p_new boolean[],
    p_type text[], p_reply_to text[], p_target_from_me boolean[], p_target_sender text[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    -- A send of ours that is marked at this very moment either has its key by now or will look here; see mark_sent.
    PERFORM pg_advisory_xact_lock(x.target)
       FROM (SELECT DISTINCT hashtextextended(i.reply_to, p_tenant) AS target FROM unnest(p_type, p_reply_to) i (typ, reply_to)
              WHERE sidestep.is_change(typ) AND i.reply_to IS NOT NULL ORDER BY 1) x;
    INSERT INTO sidestep.early_changes (tenant_id, chat_id, external_id, id, target_from_me, target_sender)
    SELECT p_tenant, chat, i.reply_to, i.id, target_from_me, target_sender
      FROM unnest(p_chats, p_ids, p_new, p_type, p_reply_to, p_target_from_me, p_target_sender)
           i (chat, id, fresh, typ, reply_to, target_from_me, target_sender)
     WHERE fresh AND sidestep.is_change(typ) AND i.reply_to IS NOT NULL
    ON CONFLICT DO NOTHING; -- the past has told of it, and it waits still
END $$;
COMMENT ON FUNCTION sidestep.await_targets IS 'Lets the changes of a batch wait for what they change; to be applied when it is there, or at once.';

CREATE FUNCTION sidestep.whereabouts(p_tenant bigint, p_account bigint, p_channel text, p_jid text[], p_sender text[], p_external_id text[],
    OUT chats bigint[], OUT contacts bigint[]) LANGUAGE plpgsql AS $$
BEGIN
    SELECT array_agg(a.chat_id ORDER BY i.o), array_agg(coalesce(c.contact_id, l.contact_id) ORDER BY i.o) INTO chats, contacts
      FROM unnest(p_jid, p_sender) WITH ORDINALITY i (jid, sender, o)
      LEFT JOIN sidestep.chat_aliases a
        ON a.tenant_id = p_tenant AND a.account_id = p_account AND a.channel = p_channel AND a.jid = i.jid
      LEFT JOIN sidestep.contacts c ON c.tenant_id = p_tenant AND c.jid = i.sender
      LEFT JOIN sidestep.contacts l ON l.tenant_id = p_tenant AND l.lid = i.sender;
    IF array_position(chats, NULL) IS NOT NULL THEN
        RAISE EXCEPTION 'no chat for message %', p_external_id[array_position(chats, NULL)] USING ERRCODE = 'SS001';
    END IF;
END $$;
COMMENT ON FUNCTION sidestep.whereabouts IS 'The chat and the sender of each message of a batch; raises where an address leads to no chat.';

CREATE FUNCTION sidestep.lock_chats(p_tenant bigint, p_chats bigint[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_locked bigint;
BEGIN
    -- The hot rows, locked in one order, so that two recorders never wait for each other in a circle.
    PERFORM FROM sidestep.chat_state s WHERE s.tenant_id = p_tenant AND s.chat_id = ANY (p_chats) ORDER BY s.chat_id FOR NO KEY UPDATE;
    GET DIAGNOSTICS v_locked = ROW_COUNT;
    IF v_locked <> (SELECT count(DISTINCT c) FROM unnest(p_chats) c) THEN
        RAISE EXCEPTION 'a chat was merged while it was being written to' USING ERRCODE = 'SS001';
    END IF;
END $$;
COMMENT ON FUNCTION sidestep.lock_chats IS 'Locks the state rows of a batch''s chats; raises if one of them was merged meanwhile.';

CREATE FUNCTION sidestep.hear_live(p_tenant bigint, p_chats bigint[], p_ids bigint[], p_heard boolean[],
    p_device int[], p_type text[], p_text text[], p_command text[]) RETURNS void LANGUAGE sql AS $$
    UPDATE sidestep.messages m
       SET command = i.command, sender_device = CASE WHEN m.author = 'human' THEN i.device ELSE m.sender_device END,
           type = CASE WHEN m.type = 'undecryptable' THEN i.typ ELSE m.type END,
           text = CASE WHEN m.type = 'undecryptable' AND m.edited_at IS NULL THEN i.txt ELSE m.text END
      FROM unnest(p_chats, p_ids, p_heard, p_device, p_type, p_text, p_command) i (chat, id, heard, device, typ, txt, command)
     WHERE heard AND m.tenant_id = p_tenant AND m.chat_id = chat AND m.id = i.id
$$;
COMMENT ON FUNCTION sidestep.hear_live IS 'What the past has told comes live: it keeps its place and its words, and gets what only the event knows.';

CREATE FUNCTION sidestep.record(p_tenant bigint, p_account bigint, p_channel text, p_now timestamptz,
    p_jid text[], p_sender text[], p_device int[], p_external_id text[], p_author text[], p_type text[], p_is_group boolean[],
    p_text text[], p_reply_to text[], p_addressed boolean[], p_command text[], p_sent_at timestamptz[], p_raw text[],
    p_target_from_me boolean[], p_target_sender text[], p_metadata jsonb[], p_takes_over boolean[], p_action text[])
RETURNS TABLE (ordinal int, is_new boolean, id bigint, chat_id bigint, thread_id bigint, action_taken text,
    changed_id bigint, text text, edited_at timestamptz, deleted_at timestamptz)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan
    SET lock_timeout = '2s' -- whoever holds one chat may not keep a batch, and the chats that it has locked, waiting
    ROWS 100 AS $$
DECLARE
    v_chat bigint[];
    v_contact bigint[];
    v_id bigint[];
    v_new boolean[]; -- not here yet
    v_live boolean[]; -- heard for the first time: new, or told by the past only
    v_action text[];
    v_changed bigint[];
    v_resume interval;
BEGIN
    SELECT auto_resume_after INTO v_resume FROM sidestep.tenants WHERE tenant_id = p_tenant;
    SELECT chats, contacts INTO v_chat, v_contact FROM sidestep.whereabouts(p_tenant, p_account, p_channel, p_jid, p_sender, p_external_id);
    PERFORM sidestep.lock_chats(p_tenant, v_chat);
    PERFORM sidestep.open_threads(p_tenant, v_chat, p_now);

    -- Keys first: what is not new has been here before. An id is above every earlier one of its chat, also when the
    -- clock goes back or the sequence wraps.
    WITH numbered AS MATERIALIZED (
        SELECT i.*, nextval('sidestep.message_sequence') AS n
          FROM unnest(v_chat, v_contact, p_external_id, p_author, p_is_group) WITH ORDINALITY i (chat, contact, ext, author, grp, o)),
    placed AS MATERIALIZED (
        SELECT numbered.*, ((greatest(sidestep.milliseconds(p_now), (s.last_message_id >> 20) + 1)
                             + (n >> 20) - (min(n) OVER () >> 20)) << 20) | (n & 1048575) AS id
          FROM numbered JOIN sidestep.chat_state s ON s.tenant_id = p_tenant AND s.chat_id = chat),
    keyed AS (
        INSERT INTO sidestep.message_keys AS k (tenant_id, chat_id, external_id, from_me, sender_id, id)
        SELECT p_tenant, chat, ext, author = 'human', CASE WHEN grp AND author = 'customer' THEN coalesce(contact, 0) ELSE 0 END, placed.id
          FROM placed ORDER BY o ON CONFLICT DO NOTHING RETURNING k.chat_id, k.id)
    SELECT array_agg(placed.id ORDER BY o), array_agg(keyed.id IS NOT NULL ORDER BY o) INTO v_id, v_new
      FROM placed LEFT JOIN keyed ON keyed.id = placed.id AND keyed.chat_id = placed.chat;
    IF false = ANY (v_new) THEN -- a repeat is about the message that was here before
        SELECT array_agg(CASE WHEN fresh THEN i.id ELSE coalesce(k.id, i.id) END ORDER BY o) INTO v_id
          FROM unnest(v_chat, v_id, v_new, p_external_id, p_author, p_is_group, v_contact) WITH ORDINALITY
               i (chat, id, fresh, ext, author, grp, contact, o)
          LEFT JOIN sidestep.message_keys k
            ON k.tenant_id = p_tenant AND k.external_id = ext AND k.chat_id = chat AND k.from_me = (author = 'human')
           AND k.sender_id = CASE WHEN grp AND author = 'customer' THEN coalesce(contact, 0) ELSE 0 END;
    END IF;
    v_live := v_new;
    IF false = ANY (v_new) THEN
        SELECT array_agg(fresh OR (first AND given IS DISTINCT FROM 'imported' AND sidestep.is_past(p_tenant, chat, i.id)) ORDER BY o) INTO v_live
          FROM (SELECT u.*, row_number() OVER (PARTITION BY chat, u.id ORDER BY o) = 1 AS first
                  FROM unnest(v_chat, v_id, v_new, p_action) WITH ORDINALITY u (chat, id, fresh, given, o)) i;
    END IF;

    -- A human spoke: the first such message of a chat that was not paused, or that waited for a human, is the takeover. One that reaches us so late
    -- that the owner would be idle again raises the epoch, but pauses nothing.
    SELECT array_agg(CASE
               WHEN NOT takes_over THEN given
               WHEN (NOT s.is_paused OR s.pause_reason IN ('ai_handoff', 'customer_request')) AND pauses AND first THEN 'paused'
               ELSE 'human_spoke' END ORDER BY o) INTO v_action
      FROM (SELECT i.*, pauses, row_number() OVER (PARTITION BY chat, takes_over AND pauses AND fresh ORDER BY o) = 1 AND fresh AS first
              FROM unnest(v_chat, v_live, p_takes_over, p_action, p_sent_at) WITH ORDINALITY i (chat, fresh, takes_over, given, at, o),
                   LATERAL (SELECT v_resume IS NULL OR at + v_resume > p_now AS pauses) x) t
      JOIN sidestep.chat_state s ON s.tenant_id = p_tenant AND s.chat_id = chat;

    UPDATE sidestep.chat_state s
       SET last_message_id = greatest(s.last_message_id, b.last_id), last_message_at = p_now, reply_jid = coalesce(b.reply_jid, s.reply_jid),
           epoch = s.epoch + b.spoke::int,
           last_human_at = greatest(s.last_human_at, b.human_at), last_human_id = greatest(s.last_human_id, b.human_id),
           is_paused = s.is_paused OR b.took, pause_reason = CASE WHEN b.took THEN 'human_takeover' ELSE s.pause_reason END,
           paused_at = CASE WHEN b.took THEN p_now ELSE s.paused_at END, paused_until = CASE WHEN b.took THEN NULL ELSE s.paused_until END
      FROM (SELECT chat, max(i.id) AS last_id, bool_or(takes_over) AS spoke, bool_or(takes_over AND act = 'paused') AS took,
                   max(least(at, p_now)) FILTER (WHERE takes_over) AS human_at, max(i.id) FILTER (WHERE takes_over) AS human_id,
                   (array_agg(jid ORDER BY i.id DESC) FILTER (WHERE author = 'customer'))[1] AS reply_jid
              FROM unnest(v_chat, v_id, v_live, p_takes_over, v_action, p_sent_at, p_jid, p_author)
                   i (chat, id, live, takes_over, act, at, jid, author)
             WHERE live GROUP BY chat) b
     WHERE s.tenant_id = p_tenant AND s.chat_id = b.chat;
    UPDATE sidestep.outbox o SET status = 'cancelled', due_at = NULL, error = 'a human took over'
     WHERE o.tenant_id = p_tenant AND o.status = 'queued' AND o.sent_at IS NULL AND o.epoch IS NOT NULL
       AND o.chat_id IN (SELECT chat FROM unnest(v_chat, v_live, p_takes_over) i (chat, live, takes_over) WHERE live AND takes_over);

    INSERT INTO sidestep.messages (tenant_id, chat_id, id, thread_id, direction, author, type, external_id, sender_id, sender_device,
                                   is_group, text, reply_to, addressed, command, metadata, sent_at)
    SELECT p_tenant, chat, i.id, s.active_thread_id, CASE WHEN author = 'human' THEN 'outbound' ELSE 'inbound' END, author, typ, ext,
           CASE WHEN author = 'customer' THEN contact END, CASE WHEN author = 'human' THEN device END, grp, txt, i.reply_to, i.addressed, i.command, i.metadata, at
      FROM unnest(v_chat, v_contact, v_id, v_new, p_author, p_type, p_external_id, p_device, p_is_group, p_text, p_reply_to,
                  p_addressed, p_command, p_metadata, p_sent_at) WITH ORDINALITY
           i (chat, contact, id, fresh, author, typ, ext, device, grp, txt, reply_to, addressed, command, metadata, at, o)
      JOIN sidestep.chat_state s ON s.tenant_id = p_tenant AND s.chat_id = chat
     WHERE fresh ORDER BY o;
    INSERT INTO sidestep.message_payloads (tenant_id, chat_id, id, raw)
    SELECT p_tenant, chat, i.id, payload::jsonb FROM unnest(v_chat, v_id, v_new, p_raw) i (chat, id, fresh, payload)
     WHERE fresh AND payload IS NOT NULL;
    IF v_live <> v_new THEN
        PERFORM sidestep.hear_live(p_tenant, v_chat, v_id, ARRAY(SELECT live AND NOT fresh FROM unnest(v_live, v_new) WITH ORDINALITY i (live, fresh, o) ORDER BY o),
                                   p_device, p_type, p_text, p_command);
    END IF;
    -- Also what was imported is decided now: that said only that it had not come live, and stands beside.
    INSERT INTO sidestep.decisions (tenant_id, chat_id, message_id, event_type, action_taken, decided_at)
    SELECT p_tenant, chat, i.id, CASE WHEN fresh THEN 'message' ELSE 'live' END, act, CASE WHEN act IS NOT NULL THEN p_now END
      FROM unnest(v_chat, v_id, v_new, v_live, v_action) i (chat, id, fresh, live, act) WHERE live;

    -- A repeat is an event too: it leaves its own decision beside the message's.
    INSERT INTO sidestep.decisions AS d (tenant_id, chat_id, message_id, event_type, action_taken, decided_at)
    SELECT DISTINCT p_tenant, chat, i.id, 'repeat', 'duplicate', p_now FROM unnest(v_chat, v_id, v_live) i (chat, id, live)
     WHERE NOT live -- nor archived: a decision lives as long as its message
       AND EXISTS (SELECT FROM sidestep.messages m WHERE m.tenant_id = p_tenant AND m.chat_id = chat AND m.id = i.id)
    ON CONFLICT DO NOTHING;

    IF p_type && ARRAY['edit', 'revoke', 'reaction'] THEN
        PERFORM sidestep.await_targets(p_tenant, v_chat, v_id, v_live, p_type, p_reply_to, p_target_from_me, p_target_sender);
    END IF;
    IF EXISTS (SELECT FROM sidestep.early_changes e WHERE e.tenant_id = p_tenant AND e.external_id = ANY (p_external_id || p_reply_to)) THEN
        WITH applied AS MATERIALIZED (SELECT * FROM sidestep.apply_changes(p_tenant, v_chat, p_external_id || p_reply_to))
        SELECT array_agg(coalesce(a.target_id, t.target_id) ORDER BY o) INTO v_changed
          FROM unnest(v_chat, v_id, v_live) WITH ORDINALITY i (chat, id, live, o)
          LEFT JOIN applied a ON live AND (a.chat_id, a.change_id) = (chat, i.id)
          LEFT JOIN (SELECT DISTINCT d.chat_id, d.target_id FROM applied d) t ON live AND (t.chat_id, t.target_id) = (chat, i.id);
    END IF;

    RETURN QUERY
    SELECT o::int, live, i.id, chat, s.active_thread_id, CASE WHEN live THEN act ELSE 'duplicate' END,
           m.id, m.text, m.edited_at, m.deleted_at
      FROM unnest(v_id, v_new, v_live, v_chat, v_action, v_changed) WITH ORDINALITY i (id, fresh, live, chat, act, changed, o)
      JOIN sidestep.chat_state s ON s.tenant_id = p_tenant AND s.chat_id = chat
      -- What the past has told may have been changed before it came: it reads as it does now.
      LEFT JOIN sidestep.messages m ON m.tenant_id = p_tenant AND m.chat_id = chat AND m.id = coalesce(changed, CASE WHEN live AND NOT fresh THEN i.id END)
     ORDER BY o;
END $$;
COMMENT ON FUNCTION sidestep.record IS 'Records a batch of one account''s messages in one commit: keys, messages, payloads, open decisions, the takeover of a human''s, and what they change in others.';

-- The past ----------------------------------------------------------------------------------------------

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
    v_own record;
BEGIN
    SELECT chats, contacts INTO v_chat, v_contact FROM sidestep.whereabouts(p_tenant, p_account, p_channel, p_jid, p_sender, p_external_id);
    PERFORM sidestep.lock_chats(p_tenant, v_chat);
    -- Nothing of the past is of now: what is recorded live meanwhile gets a higher id.
    SELECT array_agg(date_trunc('milliseconds', least(at, p_now - interval '1 millisecond')) ORDER BY o) INTO v_at FROM unnest(p_sent_at) WITH ORDINALITY i (at, o);
    FOR v_own IN SELECT * FROM unnest(v_chat, p_author, p_external_id, p_text, v_at) i (chat, author, ext, txt, at)
                  WHERE author = 'human' AND EXISTS (SELECT FROM sidestep.outbox u
                        WHERE u.tenant_id = p_tenant AND u.chat_id = chat AND u.sent_at IS NULL AND u.status IN ('unknown', 'sending')) LOOP
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
        UPDATE sidestep.messages m SET type = i.typ, text = CASE WHEN m.edited_at IS NULL THEN i.txt ELSE coalesce(m.text, i.txt) END, reply_to = i.reply_to
          FROM unnest(v_chat, v_new, p_external_id, p_author, p_type, p_text, p_reply_to, p_is_group, v_contact)
               i (chat, fresh, ext, author, typ, txt, reply_to, grp, contact)
          JOIN sidestep.message_keys k
            ON k.tenant_id = p_tenant AND k.external_id = ext AND k.chat_id = chat AND k.from_me = (author = 'human')
           AND k.sender_id = CASE WHEN grp AND author = 'customer' THEN coalesce(contact, 0) ELSE 0 END
         WHERE NOT fresh AND i.typ <> 'undecryptable'
           AND m.tenant_id = p_tenant AND m.chat_id = chat AND m.id = k.id AND m.type = 'undecryptable';
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
    INSERT INTO sidestep.decisions (tenant_id, chat_id, message_id, action_taken, decided_at)
    SELECT p_tenant, chat, id, 'imported', p_now FROM unnest(v_chat, v_id, v_new) i (chat, id, fresh) WHERE fresh;
    IF p_type && ARRAY['edit', 'revoke', 'reaction'] THEN
        PERFORM sidestep.await_targets(p_tenant, v_chat, v_id, v_new, p_type, p_reply_to, p_target_from_me, p_target_sender);
    END IF;
    IF EXISTS (SELECT FROM sidestep.early_changes e WHERE e.tenant_id = p_tenant AND e.external_id = ANY (p_external_id || p_reply_to)) THEN
        PERFORM sidestep.apply_changes(p_tenant, v_chat, p_external_id || p_reply_to);
    END IF;
    RETURN (SELECT count(*) FROM unnest(v_new) fresh WHERE fresh);
END $$;
COMMENT ON FUNCTION sidestep.record_past IS 'Records what was said before, each at its own time, without waking anything: no open decision, no takeover, no change of state. What of it comes live after all is heard then, by record. Returns how many were new.';

-- Answering ---------------------------------------------------------------------------------------------

CREATE FUNCTION sidestep.enqueue(p_tenant bigint, p_chat bigint, p_now timestamptz, p_epoch bigint, p_is_command_answer boolean, p_answers bigint[],
    p_type text, p_text text, p_media_url text, p_metadata jsonb)
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_id bigint;
    v_account bigint;
    v_group boolean;
BEGIN
    PERFORM sidestep.ensure_months(p_now, p_now); -- a script may be the first to speak in a month
    p_chat := sidestep.hold_chat(p_tenant, p_chat);
    SELECT account_id, is_group INTO STRICT v_account, v_group FROM sidestep.chats WHERE tenant_id = p_tenant AND chat_id = p_chat;
    PERFORM FROM sidestep.chat_state WHERE tenant_id = p_tenant AND chat_id = p_chat FOR NO KEY UPDATE;
    PERFORM sidestep.open_threads(p_tenant, ARRAY[p_chat], p_now);
    UPDATE sidestep.chat_state
       SET last_message_id = (greatest(sidestep.milliseconds(p_now), (last_message_id >> 20) + 1) << 20)
                             | (nextval('sidestep.message_sequence') & 1048575), last_message_at = p_now
     WHERE tenant_id = p_tenant AND chat_id = p_chat RETURNING last_message_id INTO STRICT v_id;
    INSERT INTO sidestep.messages (tenant_id, chat_id, id, thread_id, direction, author, type, is_group, text, media_url, metadata, sent_at)
    SELECT p_tenant, p_chat, v_id, active_thread_id, 'outbound', 'bot', p_type, v_group, p_text, p_media_url, p_metadata, p_now
      FROM sidestep.chat_state WHERE tenant_id = p_tenant AND chat_id = p_chat;
    INSERT INTO sidestep.outbox (tenant_id, chat_id, id, account_id, epoch, is_command_answer, due_at, answers, queued_at)
    VALUES (p_tenant, p_chat, v_id, v_account, p_epoch, p_is_command_answer, p_now, p_answers, p_now);
    RETURN v_id;
END $$;
COMMENT ON FUNCTION sidestep.enqueue IS 'Records one message of ours and queues it, in one commit: it is stored before anything is sent.';

CREATE FUNCTION sidestep.decide(p_tenant bigint, p_chat bigint, p_now timestamptz, p_ids bigint[], p_actions text[], p_details text[])
RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
    v_closed bigint[];
BEGIN
    p_chat := sidestep.hold_chat(p_tenant, p_chat);
    WITH closed AS (
        UPDATE sidestep.decisions d SET action_taken = i.action, detail = i.detail, decided_at = p_now
          FROM unnest(p_ids, p_actions, p_details) i (id, action, detail)
         WHERE d.tenant_id = p_tenant AND d.chat_id = p_chat AND d.message_id = i.id AND d.event_type IN ('message', 'live') AND d.action_taken IS NULL
        RETURNING d.message_id)
    SELECT coalesce(array_agg(message_id), '{}') INTO v_closed FROM closed;
    RETURN v_closed;
END $$;
COMMENT ON FUNCTION sidestep.decide IS 'Closes open decisions, each at most once; returns those that this call has closed.';

CREATE FUNCTION sidestep.may_speak(p_tenant bigint, p_chat bigint, p_epoch bigint, p_is_command_answer boolean DEFAULT false) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    IF p_epoch IS NULL THEN
        RETURN true;
    END IF;
    -- Held to the end of the transaction: a takeover comes before this look or after our commit, never in between.
    PERFORM FROM sidestep.chat_state WHERE tenant_id = p_tenant AND chat_id = p_chat AND epoch = p_epoch
        AND (p_is_command_answer OR (NOT is_paused AND NOT is_excluded AND opted_out_at IS NULL)) FOR SHARE;
    RETURN FOUND AND (p_is_command_answer OR NOT EXISTS (SELECT FROM sidestep.processing_state WHERE tenant_id = p_tenant AND is_paused));
END $$;
COMMENT ON FUNCTION sidestep.may_speak IS 'The durable fence: whether a reply made under this epoch may still be said. For a command''s answer only the epoch counts.';

CREATE FUNCTION sidestep.withdraw(p_tenant bigint, p_chat bigint, p_ids bigint[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_number bigint;
BEGIN
    p_chat := sidestep.hold_chat(p_tenant, p_chat);
    -- The chat before its rows, as a claim locks them.
    PERFORM FROM sidestep.chat_state WHERE tenant_id = p_tenant AND chat_id = p_chat FOR NO KEY UPDATE;
    UPDATE sidestep.outbox SET status = 'cancelled', due_at = NULL, error = 'answered together with a later message'
     WHERE tenant_id = p_tenant AND chat_id = p_chat AND id = ANY (p_ids) AND status = 'queued';
    GET DIAGNOSTICS v_number = ROW_COUNT;
    IF v_number <> cardinality(p_ids) THEN
        RAISE EXCEPTION 'a reply that was to be withdrawn is no longer queued' USING ERRCODE = 'SS003';
    END IF;
END $$;
COMMENT ON FUNCTION sidestep.withdraw IS 'Cancels replies in whose place another answer comes; raises unless all of them are still queued.';

CREATE FUNCTION sidestep.answer(p_tenant bigint, p_chat bigint, p_now timestamptz, p_epoch bigint,
    p_ids bigint[], p_actions text[], p_details text[], p_answers bigint[],
    p_types text[], p_texts text[], p_media_urls text[], p_metadata jsonb[], p_fenced boolean[],
    p_withdraw bigint[])
RETURNS TABLE (verdict text, reply_ids bigint[]) LANGUAGE plpgsql AS $$
DECLARE
    v_epoch bigint;
BEGIN
    reply_ids := '{}';
    p_chat := sidestep.hold_chat(p_tenant, p_chat);
    -- The stronger lock at once: taking it after the share lock of may_speak would deadlock two answers.
    PERFORM FROM sidestep.chat_state WHERE tenant_id = p_tenant AND chat_id = p_chat FOR NO KEY UPDATE;
    IF NOT sidestep.may_speak(p_tenant, p_chat, p_epoch) THEN
        verdict := 'stale';
        RETURN NEXT;
        RETURN;
    END IF;
    IF cardinality(sidestep.decide(p_tenant, p_chat, p_now, p_ids, p_actions, p_details)) <> cardinality(p_ids) THEN
        RAISE EXCEPTION 'another process has decided these messages' USING ERRCODE = 'SS002';
    END IF;
    PERFORM sidestep.withdraw(p_tenant, p_chat, p_withdraw);
    SELECT epoch INTO v_epoch FROM sidestep.chat_state WHERE tenant_id = p_tenant AND chat_id = p_chat;
    FOR n IN 1 .. cardinality(p_texts) LOOP
        reply_ids := reply_ids || sidestep.enqueue(p_tenant, p_chat, p_now, v_epoch, NOT p_fenced[n], p_answers, p_types[n], p_texts[n], p_media_urls[n], p_metadata[n]);
    END LOOP;
    verdict := 'queued';
    RETURN NEXT;
END $$;
COMMENT ON FUNCTION sidestep.answer IS 'Decides a turn''s messages and queues its replies in the place of those withdrawn, in one commit, if the chat still has the turn''s epoch.';

-- Sending -----------------------------------------------------------------------------------------------

CREATE FUNCTION sidestep.claim(p_tenant bigint, p_chat bigint, p_id bigint, p_now timestamptz, p_lease interval, p_oldest timestamptz)
RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    v_row sidestep.outbox;
    v_fenced boolean;
BEGIN
    SELECT * INTO v_row FROM sidestep.outbox WHERE tenant_id = p_tenant AND chat_id = p_chat AND id = p_id;
    -- The chat before the row, in the order in which a takeover locks them.
    v_fenced := NOT sidestep.may_speak(p_tenant, p_chat, v_row.epoch, v_row.is_command_answer);
    PERFORM FROM sidestep.outbox WHERE tenant_id = p_tenant AND chat_id = p_chat AND id = p_id AND status = 'queued' FOR UPDATE;
    IF NOT FOUND THEN
        SELECT * INTO v_row FROM sidestep.outbox WHERE tenant_id = p_tenant AND chat_id = p_chat AND id = p_id;
        RETURN CASE v_row.status WHEN 'cancelled' THEN 'cancelled' ELSE 'gone' END;
    END IF;
    IF v_fenced OR v_row.queued_at < p_oldest THEN
        UPDATE sidestep.outbox SET status = 'cancelled', due_at = NULL,
               error = CASE WHEN v_fenced THEN 'the bot may no longer speak in this chat' ELSE 'too old to be of use' END
         WHERE tenant_id = p_tenant AND chat_id = p_chat AND id = p_id;
        RETURN 'cancelled';
    END IF;
    UPDATE sidestep.outbox SET status = 'sending', due_at = p_now + p_lease, attempts = attempts + 1
     WHERE tenant_id = p_tenant AND chat_id = p_chat AND id = p_id;
    RETURN 'claimed';
END $$;
COMMENT ON FUNCTION sidestep.claim IS 'Takes a queued row for sending: claimed; cancelled, because it may no longer be said; or gone, because someone else has settled it.';

CREATE FUNCTION sidestep.rank(p_status text) RETURNS int
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE p_status WHEN 'sent' THEN 1 WHEN 'delivered' THEN 2 WHEN 'read' THEN 3 ELSE 0 END;
COMMENT ON FUNCTION sidestep.rank IS 'How far a status is on the way from sent to read; 0 for one that says nothing of it.';

CREATE FUNCTION sidestep.forward(p_tenant bigint, p_chat bigint, p_id bigint, p_status text, p_at timestamptz) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE sidestep.outbox
       SET status = p_status, due_at = NULL, failed_at = NULL, error = NULL, sent_at = coalesce(sent_at, p_at),
           delivered_at = CASE WHEN p_status IN ('delivered', 'read') THEN coalesce(delivered_at, p_at) ELSE delivered_at END,
           read_at = CASE WHEN p_status = 'read' THEN coalesce(read_at, p_at) ELSE read_at END
     WHERE tenant_id = p_tenant AND chat_id = p_chat AND id = p_id AND sidestep.rank(p_status) > sidestep.rank(status);
    RETURN FOUND;
END $$;
COMMENT ON FUNCTION sidestep.forward IS 'Moves a status forward; late, repeated and disordered receipts change nothing.';

CREATE FUNCTION sidestep.mark_sent(p_tenant bigint, p_chat bigint, p_id bigint, p_external_id text, p_at timestamptz, p_overlapped boolean)
RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    v_early record;
    v_status text;
BEGIN
    -- A receipt that comes at this very moment either finds the key below or is found among the early ones.
    PERFORM pg_advisory_xact_lock(hashtextextended(p_external_id, p_tenant));
    p_chat := sidestep.hold_chat(p_tenant, p_chat); -- it may have been merged while the platform took its time
    PERFORM sidestep.forward(p_tenant, p_chat, p_id, 'sent', p_at);
    -- What the platform says beats what was inferred.
    UPDATE sidestep.outbox SET external_id = CASE WHEN inferred THEN p_external_id ELSE coalesce(external_id, p_external_id) END,
           inferred = false, overlapped = overlapped OR p_overlapped
     WHERE tenant_id = p_tenant AND chat_id = p_chat AND id = p_id;
    INSERT INTO sidestep.message_keys (tenant_id, chat_id, external_id, from_me, id)
    VALUES (p_tenant, p_chat, p_external_id, true, p_id) ON CONFLICT DO NOTHING;
    PERFORM sidestep.apply_changes(p_tenant, ARRAY[p_chat], ARRAY[p_external_id]);
    FOR v_early IN
        DELETE FROM sidestep.early_receipts e USING sidestep.outbox o
         WHERE o.tenant_id = p_tenant AND o.chat_id = p_chat AND o.id = p_id
           AND e.tenant_id = p_tenant AND e.account_id = o.account_id AND e.external_id = p_external_id
        RETURNING e.status, e.at
    LOOP
        PERFORM sidestep.forward(p_tenant, p_chat, p_id, v_early.status, v_early.at);
    END LOOP;
    SELECT status INTO v_status FROM sidestep.outbox WHERE tenant_id = p_tenant AND chat_id = p_chat AND id = p_id;
    RETURN v_status;
END $$;
COMMENT ON FUNCTION sidestep.mark_sent IS 'The platform took it under this id; receipts that came before are applied. Returns the status that it has now.';

CREATE FUNCTION sidestep.receive_receipt(p_tenant bigint, p_account bigint, p_channel text, p_jid text, p_alt text, p_external_id text,
    p_status text, p_at timestamptz, p_now timestamptz)
RETURNS TABLE (chat_id bigint, id bigint, status text) LANGUAGE plpgsql AS $$
DECLARE
    v_sole bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended(p_external_id, p_tenant)); -- see mark_sent
    SELECT a.chat_id INTO chat_id FROM sidestep.chat_aliases a
     WHERE a.tenant_id = p_tenant AND a.account_id = p_account AND a.channel = p_channel AND a.jid IN (p_jid, p_alt) LIMIT 1;
    status := p_status;
    SELECT k.id INTO id FROM sidestep.message_keys k
     WHERE k.tenant_id = p_tenant AND k.external_id = p_external_id AND k.chat_id = receive_receipt.chat_id AND k.from_me;
    IF FOUND THEN
        IF sidestep.forward(p_tenant, chat_id, id, p_status, p_at) THEN
            RETURN NEXT;
        END IF;
        RETURN;
    END IF;
    -- Ours, but under an id that we do not know: a send that was cut off between the platform and the store. It settles
    -- an unknown row only when nothing else in the chat can be meant.
    SELECT min(o.id) INTO v_sole FROM sidestep.outbox o
     WHERE o.tenant_id = p_tenant AND o.chat_id = receive_receipt.chat_id AND o.sent_at IS NULL
       AND o.status IN ('unknown', 'sending') AND o.queued_at <= p_at + interval '1 minute' -- the platform's clock is not ours
    HAVING count(*) = 1 AND bool_and(o.status = 'unknown');
    IF v_sole IS NOT NULL THEN
        id := v_sole;
        PERFORM sidestep.mark_sent(p_tenant, chat_id, id, p_external_id, p_at, false);
        PERFORM sidestep.forward(p_tenant, chat_id, id, p_status, p_at);
        UPDATE sidestep.outbox o SET inferred = true WHERE o.tenant_id = p_tenant AND o.chat_id = receive_receipt.chat_id AND o.id = v_sole;
        RETURN NEXT;
        RETURN;
    END IF;
    INSERT INTO sidestep.early_receipts (tenant_id, account_id, external_id, status, jid, at, received_at)
    VALUES (p_tenant, p_account, p_external_id, p_status, p_jid, p_at, p_now) ON CONFLICT DO NOTHING;
END $$;
COMMENT ON FUNCTION sidestep.receive_receipt IS 'Applies one receipt: to its message, to the only unknown send that it can mean, or kept for later. Returns what changed.';

-- Back by clock -----------------------------------------------------------------------------------------

CREATE FUNCTION sidestep.resume_due(p_tenant bigint, p_now timestamptz, p_limit int)
RETURNS TABLE (chat_id bigint, message_id bigint, due_at timestamptz) LANGUAGE sql AS $$
    WITH due AS (
        SELECT s.tenant_id, s.chat_id, d.at
          FROM sidestep.chat_state s JOIN sidestep.tenants t USING (tenant_id),
               LATERAL (SELECT CASE
                            -- A human who spoke during a pause for a time is not interrupted when it ends.
                            WHEN s.paused_until IS NOT NULL THEN greatest(s.paused_until,
                                CASE WHEN s.last_human_at > s.paused_at THEN s.last_human_at + t.auto_resume_after END)
                            WHEN s.pause_reason = 'human_takeover' THEN s.last_human_at + t.auto_resume_after
                            WHEN s.pause_reason IN ('ai_handoff', 'customer_request')
                                THEN greatest(s.last_human_at, s.paused_at) + t.auto_resume_after
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
COMMENT ON FUNCTION sidestep.resume_due IS 'Ends the pauses whose time has come, each once however many ask, and records that the clock did it.';
