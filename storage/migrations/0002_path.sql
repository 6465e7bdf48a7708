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
        FOREACH v_table IN ARRAY ARRAY['messages', 'message_payloads', 'decisions'] LOOP
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
    DELETE FROM sidestep.contacts WHERE tenant_id = p_tenant AND contact_id = p_gone RETURNING * INTO v_gone;
    UPDATE sidestep.contacts
       SET jid = coalesce(jid, v_gone.jid), lid = coalesce(lid, v_gone.lid), phone = coalesce(phone, v_gone.phone),
           push_name = coalesce(push_name, v_gone.push_name), updated_at = p_now
     WHERE tenant_id = p_tenant AND contact_id = p_keep;
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

CREATE FUNCTION sidestep.merge_chats(p_tenant bigint, p_keep bigint, p_gone bigint, p_now timestamptz) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_gone sidestep.chat_state;
    v_keep sidestep.chat_state;
BEGIN
    PERFORM FROM sidestep.chat_state WHERE tenant_id = p_tenant AND chat_id IN (p_keep, p_gone) ORDER BY chat_id FOR UPDATE;
    SELECT * INTO v_keep FROM sidestep.chat_state WHERE tenant_id = p_tenant AND chat_id = p_keep;
    SELECT * INTO v_gone FROM sidestep.chat_state WHERE tenant_id = p_tenant AND chat_id = p_gone;

    -- The same message, received under both addresses: the younger copy is a duplicate, and so decided if it was not yet.
    UPDATE sidestep.decisions d SET action_taken = 'duplicate', decided_at = p_now, detail = 'received under both addresses'
      FROM sidestep.message_keys g JOIN sidestep.message_keys k
        ON (k.tenant_id, k.external_id, k.from_me, k.sender_id) = (g.tenant_id, g.external_id, g.from_me, g.sender_id)
       AND k.chat_id = p_keep
     WHERE g.tenant_id = p_tenant AND g.chat_id = p_gone AND d.tenant_id = p_tenant AND d.event_type = 'message' AND d.action_taken IS NULL
       AND (d.chat_id, d.message_id) = (CASE WHEN g.id > k.id THEN g.chat_id ELSE k.chat_id END, greatest(g.id, k.id));
    DELETE FROM sidestep.message_keys k USING sidestep.message_keys g
     WHERE k.tenant_id = p_tenant AND k.chat_id IN (p_keep, p_gone) AND g.tenant_id = p_tenant AND g.chat_id IN (p_keep, p_gone)
       AND k.chat_id <> g.chat_id AND (k.external_id, k.from_me, k.sender_id) = (g.external_id, g.from_me, g.sender_id) AND k.id > g.id;

    UPDATE sidestep.threads SET status = 'archived', archived_at = p_now
     WHERE tenant_id = p_tenant AND thread_id = least(v_keep.active_thread_id, v_gone.active_thread_id)
       AND v_keep.active_thread_id IS NOT NULL AND v_gone.active_thread_id IS NOT NULL;
    UPDATE sidestep.threads SET chat_id = p_keep WHERE tenant_id = p_tenant AND chat_id = p_gone;
    UPDATE sidestep.message_keys SET chat_id = p_keep WHERE tenant_id = p_tenant AND chat_id = p_gone;
    UPDATE sidestep.messages SET chat_id = p_keep WHERE tenant_id = p_tenant AND chat_id = p_gone;
    UPDATE sidestep.message_payloads SET chat_id = p_keep WHERE tenant_id = p_tenant AND chat_id = p_gone;
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

CREATE FUNCTION sidestep.record(p_tenant bigint, p_account bigint, p_channel text, p_now timestamptz,
    p_jid text[], p_sender text[], p_device int[], p_external_id text[], p_author text[], p_type text[], p_is_group boolean[],
    p_text text[], p_reply_to text[], p_addressed boolean[], p_command text[], p_sent_at timestamptz[], p_raw text[],
    p_takes_over boolean[], p_action text[])
RETURNS TABLE (ordinal int, is_new boolean, id bigint, chat_id bigint, thread_id bigint, action_taken text)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan
    SET lock_timeout = '2s' -- whoever holds one chat may not keep a batch, and the chats that it has locked, waiting
    ROWS 100 AS $$
DECLARE
    v_chat bigint[];
    v_contact bigint[];
    v_id bigint[];
    v_new boolean[];
    v_action text[];
    v_resume interval;
    v_locked bigint;
BEGIN
    SELECT auto_resume_after INTO v_resume FROM sidestep.tenants WHERE tenant_id = p_tenant;
    SELECT array_agg(a.chat_id ORDER BY i.o), array_agg(coalesce(c.contact_id, l.contact_id) ORDER BY i.o) INTO v_chat, v_contact
      FROM unnest(p_jid, p_sender) WITH ORDINALITY i (jid, sender, o)
      LEFT JOIN sidestep.chat_aliases a
        ON a.tenant_id = p_tenant AND a.account_id = p_account AND a.channel = p_channel AND a.jid = i.jid
      LEFT JOIN sidestep.contacts c ON c.tenant_id = p_tenant AND c.jid = i.sender
      LEFT JOIN sidestep.contacts l ON l.tenant_id = p_tenant AND l.lid = i.sender;
    IF array_position(v_chat, NULL) IS NOT NULL THEN
        RAISE EXCEPTION 'no chat for message %', p_external_id[array_position(v_chat, NULL)] USING ERRCODE = 'SS001';
    END IF;

    -- The hot rows, locked in one order, so that two recorders never wait for each other in a circle.
    PERFORM FROM sidestep.chat_state s WHERE s.tenant_id = p_tenant AND s.chat_id = ANY (v_chat) ORDER BY s.chat_id FOR NO KEY UPDATE;
    GET DIAGNOSTICS v_locked = ROW_COUNT;
    IF v_locked <> (SELECT count(DISTINCT c) FROM unnest(v_chat) c) THEN
        RAISE EXCEPTION 'a chat was merged while it was being written to' USING ERRCODE = 'SS001';
    END IF;
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

    -- A human spoke: the first such message of a chat that was not paused, or that waited for a human, is the takeover. One that reaches us so late
    -- that the owner would be idle again raises the epoch, but pauses nothing.
    SELECT array_agg(CASE
               WHEN NOT takes_over THEN given
               WHEN (NOT s.is_paused OR s.pause_reason IN ('ai_handoff', 'customer_request')) AND pauses AND first THEN 'paused'
               ELSE 'human_spoke' END ORDER BY o) INTO v_action
      FROM (SELECT i.*, pauses, row_number() OVER (PARTITION BY chat, takes_over AND pauses AND fresh ORDER BY o) = 1 AND fresh AS first
              FROM unnest(v_chat, v_new, p_takes_over, p_action, p_sent_at) WITH ORDINALITY i (chat, fresh, takes_over, given, at, o),
                   LATERAL (SELECT v_resume IS NULL OR at + v_resume > p_now AS pauses) x) t
      JOIN sidestep.chat_state s ON s.tenant_id = p_tenant AND s.chat_id = chat;

    UPDATE sidestep.chat_state s
       SET last_message_id = b.last_id, last_message_at = p_now, reply_jid = coalesce(b.reply_jid, s.reply_jid),
           epoch = s.epoch + b.spoke::int,
           last_human_at = greatest(s.last_human_at, b.human_at), last_human_id = coalesce(b.human_id, s.last_human_id),
           is_paused = s.is_paused OR b.took, pause_reason = CASE WHEN b.took THEN 'human_takeover' ELSE s.pause_reason END,
           paused_at = CASE WHEN b.took THEN p_now ELSE s.paused_at END, paused_until = CASE WHEN b.took THEN NULL ELSE s.paused_until END
      FROM (SELECT chat, max(i.id) AS last_id, bool_or(takes_over) AS spoke, bool_or(takes_over AND act = 'paused') AS took,
                   max(least(at, p_now)) FILTER (WHERE takes_over) AS human_at, max(i.id) FILTER (WHERE takes_over) AS human_id,
                   (array_agg(jid ORDER BY i.id DESC) FILTER (WHERE author = 'customer'))[1] AS reply_jid
              FROM unnest(v_chat, v_id, v_new, p_takes_over, v_action, p_sent_at, p_jid, p_author)
                   i (chat, id, fresh, takes_over, act, at, jid, author)
             WHERE fresh GROUP BY chat) b
     WHERE s.tenant_id = p_tenant AND s.chat_id = b.chat;
    UPDATE sidestep.outbox o SET status = 'cancelled', due_at = NULL, error = 'a human took over'
     WHERE o.tenant_id = p_tenant AND o.status = 'queued' AND o.sent_at IS NULL AND o.epoch IS NOT NULL
       AND o.chat_id IN (SELECT chat FROM unnest(v_chat, v_new, p_takes_over) i (chat, fresh, takes_over) WHERE fresh AND takes_over);

    INSERT INTO sidestep.messages (tenant_id, chat_id, id, thread_id, direction, author, type, external_id, sender_id, sender_device,
                                   is_group, text, reply_to, addressed, command, sent_at)
    SELECT p_tenant, chat, i.id, s.active_thread_id, CASE WHEN author = 'human' THEN 'outbound' ELSE 'inbound' END, author, typ, ext,
           CASE WHEN author = 'customer' THEN contact END, CASE WHEN author = 'human' THEN device END, grp, txt, i.reply_to, i.addressed, i.command, at
      FROM unnest(v_chat, v_contact, v_id, v_new, p_author, p_type, p_external_id, p_device, p_is_group, p_text, p_reply_to,
                  p_addressed, p_command, p_sent_at) WITH ORDINALITY
           i (chat, contact, id, fresh, author, typ, ext, device, grp, txt, reply_to, addressed, command, at, o)
      JOIN sidestep.chat_state s ON s.tenant_id = p_tenant AND s.chat_id = chat
     WHERE fresh ORDER BY o;
    INSERT INTO sidestep.message_payloads (tenant_id, chat_id, id, raw)
    SELECT p_tenant, chat, i.id, payload::jsonb FROM unnest(v_chat, v_id, v_new, p_raw) i (chat, id, fresh, payload)
     WHERE fresh AND payload IS NOT NULL;
    INSERT INTO sidestep.decisions (tenant_id, chat_id, message_id, action_taken, decided_at)
    SELECT p_tenant, chat, i.id, act, CASE WHEN act IS NOT NULL THEN p_now END
      FROM unnest(v_chat, v_id, v_new, v_action) i (chat, id, fresh, act) WHERE fresh;

    -- A repeat is an event too: it leaves its own decision beside the message's.
    INSERT INTO sidestep.decisions AS d (tenant_id, chat_id, message_id, event_type, action_taken, decided_at)
    SELECT DISTINCT p_tenant, chat, i.id, 'repeat', 'duplicate', p_now FROM unnest(v_chat, v_id, v_new) i (chat, id, fresh)
     WHERE NOT fresh -- nor archived: a decision lives as long as its message
       AND EXISTS (SELECT FROM sidestep.messages m WHERE m.tenant_id = p_tenant AND m.chat_id = chat AND m.id = i.id)
    ON CONFLICT DO NOTHING;

    RETURN QUERY
    SELECT o::int, fresh, i.id, chat, s.active_thread_id, CASE WHEN fresh THEN act ELSE 'duplicate' END
      FROM unnest(v_id, v_new, v_chat, v_action) WITH ORDINALITY i (id, fresh, chat, act, o)
      JOIN sidestep.chat_state s ON s.tenant_id = p_tenant AND s.chat_id = chat ORDER BY o;
END $$;
COMMENT ON FUNCTION sidestep.record IS 'Records a batch of one account''s messages in one commit: keys, messages, payloads, open decisions, and the takeover of a human''s.';

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
         WHERE d.tenant_id = p_tenant AND d.chat_id = p_chat AND d.message_id = i.id AND d.event_type = 'message' AND d.action_taken IS NULL
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
