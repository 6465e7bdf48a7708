-- migrate:up
-- Recording what comes, many messages in one call and one commit, and what they change in others.

-- Changing what was said ---------------------------------------------------------------------------------

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

-- Recording ----------------------------------------------------------------------------------------------

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

-- A member of a group who has been erased since they were looked up is looked up again: else what they write next would be
-- nobody's, and nobody could erase it.
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
    IF num_nonnulls(VARIADIC contacts) < num_nonnulls(VARIADIC p_sender) THEN
        IF EXISTS (
            SELECT FROM unnest(chats, contacts, p_sender) i (chat, contact, sender)
              JOIN sidestep.chats g ON g.tenant_id = p_tenant AND g.chat_id = chat AND g.is_group
             WHERE contact IS NULL AND sender IS NOT NULL AND EXISTS (SELECT FROM sidestep.erasures e WHERE e.tenant_id = p_tenant)) THEN
            RAISE EXCEPTION 'the sender of a message was erased' USING ERRCODE = 'SS001';
        END IF;
    END IF;
END $$;
COMMENT ON FUNCTION sidestep.whereabouts IS 'The chat and the sender of each message of a batch; raises where an address leads to no chat, or the sender in a group was erased meanwhile.';

CREATE FUNCTION sidestep.lock_chats(p_tenant bigint, p_chats bigint[], OUT lack_thread boolean) LANGUAGE plpgsql AS $$
DECLARE
    v_all_there boolean;
BEGIN
    -- The hot rows, locked in one order, so that two recorders never wait for each other in a circle.
    SELECT count(*) = (SELECT count(DISTINCT c) FROM unnest(p_chats) c), bool_or(active_thread_id IS NULL) INTO v_all_there, lack_thread
      FROM (SELECT s.active_thread_id FROM sidestep.chat_state s WHERE s.tenant_id = p_tenant AND s.chat_id = ANY (p_chats)
             ORDER BY s.chat_id FOR NO KEY UPDATE) locked;
    IF NOT v_all_there THEN
        RAISE EXCEPTION 'a chat was merged while it was being written to' USING ERRCODE = 'SS001';
    END IF;
END $$;
COMMENT ON FUNCTION sidestep.lock_chats IS 'Locks the state rows of a batch''s chats, and tells whether one of them lacks an active thread; raises if one was merged meanwhile.';

CREATE FUNCTION sidestep.read_unopened(p_tenant bigint, p_account bigint, p_now timestamptz, p_chats bigint[], p_ids bigint[], p_new boolean[], p_live boolean[],
    p_type text[], p_text text[], p_reply_to text[], p_addressed boolean[], p_metadata jsonb[], p_raw text[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_chat bigint[];
    v_id bigint[];
    v_raw text[];
    v_live boolean[];
BEGIN
    WITH opened AS (
        UPDATE sidestep.messages m
           SET type = i.typ, text = CASE WHEN m.edited_at IS NULL THEN i.txt ELSE coalesce(m.text, i.txt) END,
               reply_to = i.reply_to, addressed = i.addressed, metadata = i.metadata
          FROM unnest(p_chats, p_ids, p_new, p_type, p_text, p_reply_to, p_addressed, p_metadata, p_raw, p_live)
               i (chat, id, fresh, typ, txt, reply_to, addressed, metadata, raw, live)
         WHERE NOT fresh AND i.typ <> 'undecryptable'
           AND m.tenant_id = p_tenant AND m.chat_id = chat AND m.id = i.id AND m.type = 'undecryptable'
        RETURNING m.chat_id, m.id, i.raw, i.txt, i.live),
    worded AS ( -- an edit that came first has kept that there were no words
        UPDATE sidestep.message_versions v SET text = o.txt FROM opened o
         WHERE v.tenant_id = p_tenant AND v.chat_id = o.chat_id AND v.id = o.id AND v.version_id = o.id AND v.text IS NULL)
    SELECT array_agg(o.chat_id), array_agg(o.id), array_agg(o.raw), array_agg(o.live) INTO v_chat, v_id, v_raw, v_live FROM opened o WHERE o.raw IS NOT NULL;
    IF v_id IS NULL THEN
        RETURN;
    END IF;
    INSERT INTO sidestep.message_payloads AS p (tenant_id, chat_id, id, raw)
    SELECT p_tenant, chat, id, payload::jsonb FROM unnest(v_chat, v_id, v_raw) i (chat, id, payload)
    ON CONFLICT (tenant_id, chat_id, id) DO UPDATE SET raw = excluded.raw;
    -- The file of what is heard live is expected with it, by the statement that calls record.
    INSERT INTO sidestep.media (tenant_id, account_id, chat_id, message_id, type, created_at)
    SELECT p_tenant, p_account, m.chat_id, m.id, m.type, p_now
      FROM unnest(v_chat, v_id, v_live) i (chat, id, live) JOIN sidestep.messages m ON m.tenant_id = p_tenant AND m.chat_id = chat AND m.id = i.id
     WHERE NOT live AND m.type IN ('image', 'video', 'audio', 'document', 'sticker')
       AND NOT coalesce(m.metadata ?| ARRAY['view_once', 'unavailable'], false)
    ON CONFLICT DO NOTHING;
END $$;
COMMENT ON FUNCTION sidestep.read_unopened IS 'Messages that could not be opened come again, and can: they say what they say, in the place that they have.';

CREATE FUNCTION sidestep.is_unopened(p_tenant bigint, p_chat bigint, p_id bigint) RETURNS boolean
LANGUAGE sql STABLE
RETURN EXISTS (SELECT FROM sidestep.messages m WHERE m.tenant_id = p_tenant AND m.chat_id = p_chat AND m.id = p_id AND m.type = 'undecryptable')
   AND NOT EXISTS (SELECT FROM sidestep.decisions d WHERE d.tenant_id = p_tenant AND d.chat_id = p_chat AND d.message_id = p_id
                      AND d.event_type = 'live');
COMMENT ON FUNCTION sidestep.is_unopened IS 'Whether a message came and could not be opened, and has not been heard since.';

CREATE FUNCTION sidestep.hear_live(p_tenant bigint, p_chats bigint[], p_ids bigint[], p_heard boolean[],
    p_device int[], p_command text[]) RETURNS void LANGUAGE sql AS $$
    UPDATE sidestep.messages m
       SET command = i.command, sender_device = CASE WHEN m.author = 'human' THEN i.device ELSE m.sender_device END
      FROM unnest(p_chats, p_ids, p_heard, p_device, p_command) i (chat, id, heard, device, command)
     WHERE heard AND m.tenant_id = p_tenant AND m.chat_id = chat AND m.id = i.id
$$;
COMMENT ON FUNCTION sidestep.hear_live IS 'What the past has told comes live: it keeps its place and its words, and gets what only the event knows.';

-- The messages are not looked at where nothing of the batch has changed any, and no repeat is looked for where there is none:
-- such a look costs most, and planned while there are few messages it reads them all. Nor does a batch without a human's word
-- or a payload pay for them: for one message alone their number is a good part of its cost.
CREATE FUNCTION sidestep.record(p_tenant bigint, p_account bigint, p_channel text, p_now timestamptz,
    p_jid text[], p_sender text[], p_device int[], p_external_id text[], p_author text[], p_type text[], p_is_group boolean[],
    p_text text[], p_reply_to text[], p_addressed boolean[], p_command text[], p_sent_at timestamptz[], p_raw text[],
    p_target_from_me boolean[], p_target_sender text[], p_metadata jsonb[], p_takes_over boolean[], p_action text[])
RETURNS TABLE (ordinal int, is_new boolean, id bigint, chat_id bigint, thread_id bigint, action_taken text,
    changed_id bigint, text text, edited_at timestamptz, deleted_at timestamptz, sent_at timestamptz)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan
    SET lock_timeout = '2s' -- whoever holds one chat may not keep a batch, and the chats that it has locked, waiting
    ROWS 100 AS $$
DECLARE
    v_chat bigint[];
    v_contact bigint[];
    v_id bigint[];
    v_new boolean[]; -- not here yet
    v_live boolean[]; -- heard for the first time: new, or told by the past only, or a command that was not opened before
    v_action text[];
    v_changed bigint[];
    v_resume interval;
BEGIN
    SELECT chats, contacts INTO v_chat, v_contact FROM sidestep.whereabouts(p_tenant, p_account, p_channel, p_jid, p_sender, p_external_id);
    IF sidestep.lock_chats(p_tenant, v_chat) THEN
        PERFORM sidestep.open_threads(p_tenant, v_chat, p_now);
    END IF;

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
        SELECT array_agg(fresh OR (first AND given IS DISTINCT FROM 'imported' AND sidestep.is_past(p_tenant, chat, i.id))
                               OR (first AND author = 'human' AND command IS NOT NULL AND sidestep.is_unopened(p_tenant, chat, i.id)) ORDER BY o) INTO v_live
          FROM (SELECT u.*, row_number() OVER (PARTITION BY chat, u.id ORDER BY o) = 1 AS first
                  FROM unnest(v_chat, v_id, v_new, p_action, p_author, p_command) WITH ORDINALITY u (chat, id, fresh, given, author, command, o)) i;
        -- What is said again has been written when it was first; who sends it may stamp it anew.
        SELECT array_agg(coalesce(m.sent_at, at) ORDER BY o) INTO p_sent_at
          FROM unnest(v_chat, v_id, v_new, p_sent_at) WITH ORDINALITY i (chat, id, fresh, at, o)
          LEFT JOIN sidestep.messages m ON NOT fresh AND m.tenant_id = p_tenant AND m.chat_id = chat AND m.id = i.id;
    END IF;

    -- A human spoke: the first such message that the table of states makes a takeover is the takeover. One that no longer
    -- counts raises the epoch, but pauses nothing.
    v_action := p_action;
    IF true = ANY (p_takes_over) THEN
        SELECT auto_resume_after INTO v_resume FROM sidestep.tenants WHERE tenant_id = p_tenant;
        SELECT array_agg(CASE
                   WHEN NOT takes_over THEN given
                   WHEN sidestep.after(state, 'human_spoke') <> state AND pauses AND first THEN 'paused'
                   ELSE 'human_spoke' END ORDER BY o) INTO v_action
          FROM (SELECT i.*, state, pauses, row_number() OVER (PARTITION BY chat, takes_over AND pauses AND fresh ORDER BY o) = 1 AND fresh AS first
                  FROM unnest(v_chat, v_live, p_takes_over, p_action, p_sent_at) WITH ORDINALITY i (chat, fresh, takes_over, given, at, o)
                  JOIN sidestep.chat_state s ON s.tenant_id = p_tenant AND s.chat_id = chat,
                       LATERAL (SELECT coalesce(s.pause_reason, 'active') AS state, sidestep.counts(at, s.resumed_at, sidestep.idle_after(v_resume, s.auto_resume_after), p_now) AS pauses) x) t;
    END IF;

    UPDATE sidestep.chat_state s
       SET last_message_id = greatest(s.last_message_id, b.last_id), last_message_at = p_now, reply_jid = coalesce(b.reply_jid, s.reply_jid),
           epoch = s.epoch + b.spoke::int,
           last_human_at = greatest(s.last_human_at, b.human_at),
           last_human_id = CASE WHEN b.human_at IS NULL OR s.last_human_at > b.human_at THEN s.last_human_id ELSE b.human_id END,
           is_paused = s.is_paused OR b.took, pause_reason = CASE WHEN b.took THEN sidestep.after(coalesce(s.pause_reason, 'active'), 'human_spoke') ELSE s.pause_reason END,
           paused_at = CASE WHEN b.took THEN p_now ELSE s.paused_at END, paused_until = CASE WHEN b.took THEN NULL ELSE s.paused_until END
      FROM (SELECT chat, max(i.id) AS last_id, bool_or(takes_over) AS spoke, bool_or(takes_over AND act = 'paused') AS took,
                   max(least(at, p_now)) FILTER (WHERE takes_over) AS human_at,
                   (array_agg(i.id ORDER BY least(at, p_now) DESC, i.id DESC) FILTER (WHERE takes_over))[1] AS human_id,
                   (array_agg(jid ORDER BY i.id DESC) FILTER (WHERE author = 'customer'))[1] AS reply_jid
              FROM unnest(v_chat, v_id, v_live, p_takes_over, v_action, p_sent_at, p_jid, p_author)
                   i (chat, id, live, takes_over, act, at, jid, author)
             WHERE live GROUP BY chat) b
     WHERE s.tenant_id = p_tenant AND s.chat_id = b.chat;
    INSERT INTO sidestep.messages (tenant_id, chat_id, id, thread_id, direction, author, type, external_id, sender_id, sender_device,
                                   is_group, text, reply_to, addressed, command, metadata, sent_at)
    SELECT p_tenant, chat, i.id, s.active_thread_id, CASE WHEN author = 'human' THEN 'outbound' ELSE 'inbound' END, author, typ, ext,
           CASE WHEN author = 'customer' THEN contact END, CASE WHEN author = 'human' THEN device END, grp, txt, i.reply_to, i.addressed, i.command, i.metadata, at
      FROM unnest(v_chat, v_contact, v_id, v_new, p_author, p_type, p_external_id, p_device, p_is_group, p_text, p_reply_to,
                  p_addressed, p_command, p_metadata, p_sent_at) WITH ORDINALITY
           i (chat, contact, id, fresh, author, typ, ext, device, grp, txt, reply_to, addressed, command, metadata, at, o)
      JOIN sidestep.chat_state s ON s.tenant_id = p_tenant AND s.chat_id = chat
     WHERE fresh ORDER BY o;
    IF num_nonnulls(VARIADIC p_raw) > 0 THEN
        INSERT INTO sidestep.message_payloads (tenant_id, chat_id, id, raw)
        SELECT p_tenant, chat, i.id, payload::jsonb FROM unnest(v_chat, v_id, v_new, p_raw) i (chat, id, fresh, payload)
         WHERE fresh AND payload IS NOT NULL;
    END IF;
    IF v_live <> v_new THEN
        PERFORM sidestep.hear_live(p_tenant, v_chat, v_id, ARRAY(SELECT live AND NOT fresh FROM unnest(v_live, v_new) WITH ORDINALITY i (live, fresh, o) ORDER BY o),
                                   p_device, p_command);
    END IF;
    IF false = ANY (v_new) THEN
        PERFORM sidestep.read_unopened(p_tenant, p_account, p_now, v_chat, v_id, v_new, v_live, p_type, p_text, p_reply_to, p_addressed, p_metadata, p_raw);
    END IF;
    -- Also what was imported is decided now: that said only that it had not come live, and stands beside.
    INSERT INTO sidestep.decisions (tenant_id, chat_id, message_id, event_type, action_taken, detail, decided_at)
    SELECT p_tenant, chat, i.id, CASE WHEN fresh THEN 'message' ELSE 'live' END, act,
           CASE WHEN act = 'imported' THEN 'it could not be opened' END, CASE WHEN act IS NOT NULL THEN p_now END
      FROM unnest(v_chat, v_id, v_new, v_live, v_action) i (chat, id, fresh, live, act) WHERE live;

    IF true = ANY (p_takes_over) THEN
        PERFORM sidestep.drop_answers(p_tenant, ARRAY(SELECT chat FROM unnest(v_chat, v_live, p_takes_over) i (chat, live, takes_over) WHERE live AND takes_over), 'a human took over');
    END IF;

    -- A repeat is an event too: it leaves its own decision beside the message's. Not so a mere place that is there already.
    IF false = ANY (v_live) THEN
        INSERT INTO sidestep.decisions AS d (tenant_id, chat_id, message_id, event_type, action_taken, decided_at)
        SELECT DISTINCT p_tenant, chat, i.id, 'repeat', 'duplicate', p_now FROM unnest(v_chat, v_id, v_live, p_action) i (chat, id, live, given)
         WHERE NOT live AND given IS DISTINCT FROM 'imported' -- nor archived: a decision lives as long as its message
           AND EXISTS (SELECT FROM sidestep.messages m WHERE m.tenant_id = p_tenant AND m.chat_id = chat AND m.id = i.id)
        ON CONFLICT DO NOTHING;
    END IF;

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

    IF v_changed IS NULL AND v_live = v_new THEN -- mostly: nothing reads differently from what came
        RETURN QUERY
        SELECT o::int, live, i.id, chat, s.active_thread_id, CASE WHEN live THEN act ELSE 'duplicate' END,
               NULL::bigint, NULL::text, NULL::timestamptz, NULL::timestamptz, NULL::timestamptz
          FROM unnest(v_id, v_live, v_chat, v_action) WITH ORDINALITY i (id, live, chat, act, o)
          JOIN sidestep.chat_state s ON s.tenant_id = p_tenant AND s.chat_id = chat
         ORDER BY o;
        RETURN;
    END IF;
    RETURN QUERY
    SELECT o::int, live, i.id, chat, s.active_thread_id, CASE WHEN live THEN act ELSE 'duplicate' END,
           m.id, m.text, m.edited_at, m.deleted_at, CASE WHEN m.id = i.id THEN m.sent_at END
      FROM unnest(v_id, v_new, v_live, v_chat, v_action, v_changed) WITH ORDINALITY i (id, fresh, live, chat, act, changed, o)
      JOIN sidestep.chat_state s ON s.tenant_id = p_tenant AND s.chat_id = chat
      -- What the past has told may have been changed before it came: it reads as it does now.
      LEFT JOIN sidestep.messages m ON m.tenant_id = p_tenant AND m.chat_id = chat AND m.id = coalesce(changed, CASE WHEN live AND NOT fresh THEN i.id END)
     ORDER BY o;
END $$;
COMMENT ON FUNCTION sidestep.record IS 'Records a batch of one account''s messages in one commit: keys, messages, payloads, open decisions, the takeover of a human''s, and what they change in others.';
