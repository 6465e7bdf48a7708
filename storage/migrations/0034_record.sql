-- migrate:up
-- As in 0002_path, but that the messages are not looked at where nothing of the batch has changed any, and no repeat is
-- looked for where there is none: such a look costs most, and planned while there are few messages it reads them all.

CREATE OR REPLACE FUNCTION sidestep.record(p_tenant bigint, p_account bigint, p_channel text, p_now timestamptz,
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
    IF false = ANY (v_live) THEN
        INSERT INTO sidestep.decisions AS d (tenant_id, chat_id, message_id, event_type, action_taken, decided_at)
        SELECT DISTINCT p_tenant, chat, i.id, 'repeat', 'duplicate', p_now FROM unnest(v_chat, v_id, v_live) i (chat, id, live)
         WHERE NOT live -- nor archived: a decision lives as long as its message
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
               NULL::bigint, NULL::text, NULL::timestamptz, NULL::timestamptz
          FROM unnest(v_id, v_live, v_chat, v_action) WITH ORDINALITY i (id, live, chat, act, o)
          JOIN sidestep.chat_state s ON s.tenant_id = p_tenant AND s.chat_id = chat
         ORDER BY o;
        RETURN;
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
