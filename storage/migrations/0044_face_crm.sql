-- migrate:up
-- As in 0041, but that each conversation is read by a function: the views' own plans stay small, and a server that compiles
-- what it takes for costly (jit) does not spend seconds on them.

CREATE OR REPLACE FUNCTION sidestep.said_in(p_tenant bigint, p_chat bigint, p_from bigint, p_before bigint) RETURNS TABLE (id bigint, sent_at timestamptz, said jsonb)
LANGUAGE sql STABLE AS $$
    -- What is asked of other tables is asked by key, and only of messages that have it.
    SELECT m.id, m.sent_at, jsonb_build_object(
               'id', coalesce(m.external_id, (SELECT o.external_id FROM sidestep.outbox o
                                               WHERE o.tenant_id = m.tenant_id AND o.chat_id = m.chat_id AND o.id = m.id), 'sidestep:' || m.id),
               'direction', m.direction, 'type', m.type, 'content', m.text,
               'media_url', coalesce(m.media_url, CASE WHEN m.type IN ('image', 'video', 'audio', 'document', 'sticker') THEN (
                   SELECT f.url FROM sidestep.media_files f
                    WHERE f.tenant_id = m.tenant_id AND f.chat_id = m.chat_id AND f.message_id = m.id AND f.ordinal = 0) END),
               'sent_at', to_char(m.sent_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'))
      FROM sidestep.messages m
     WHERE m.tenant_id = p_tenant AND m.chat_id = p_chat AND m.id >= p_from AND m.id < p_before
       AND m.deleted_at IS NULL AND NOT sidestep.is_change(m.type)
       AND (m.author <> 'bot' OR coalesce((SELECT o.status <> 'cancelled' OR o.sent_at IS NOT NULL FROM sidestep.outbox o
             WHERE o.tenant_id = m.tenant_id AND o.chat_id = m.chat_id AND o.id = m.id), true))
$$;

CREATE FUNCTION sidestep.messages_between(p_tenant bigint, p_chat bigint, p_from bigint, p_before bigint) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (SELECT coalesce(jsonb_agg(s.said ORDER BY s.id), '[]') FROM sidestep.newest_said(p_tenant, p_chat, p_from, p_before) s);
END $$;
COMMENT ON FUNCTION sidestep.messages_between IS 'The newest messages of a chat within a span of ids as one array, oldest first.';

CREATE FUNCTION sidestep.conversation_preview(p_tenant bigint, p_chat bigint) RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (SELECT "left"(s.said ->> 'content', 100) FROM sidestep.said_in(p_tenant, p_chat, 0, 9223372036854775807) s ORDER BY s.id DESC LIMIT 1);
END $$;
COMMENT ON FUNCTION sidestep.conversation_preview IS 'How the newest message of a chat begins.';

CREATE FUNCTION sidestep.conversation_count(p_tenant bigint, p_chat bigint, p_uncounted int8multirange) RETURNS integer LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN coalesce((SELECT sum(t.messages) FROM sidestep.tallies t WHERE t.tenant_id = p_tenant AND t.chat_id = p_chat
                        AND NOT sidestep.id_floor(t.day::timestamp AT TIME ZONE 'UTC') <@ p_uncounted), 0)
           + coalesce((SELECT sum((SELECT count(*) FROM sidestep.said_in(p_tenant, p_chat, lower(r), upper(r)))) FROM unnest(p_uncounted) r), 0);
END $$;
COMMENT ON FUNCTION sidestep.conversation_count IS 'How many messages a chat has: by the sums of months that are over, and counted in the spans for which there are none.';

CREATE FUNCTION sidestep.said_on(p_tenant bigint, p_chat bigint, p_day date) RETURNS TABLE (message_count integer, first_message_at timestamptz, last_message_at timestamptz)
LANGUAGE plpgsql STABLE ROWS 1 AS $$
BEGIN
    RETURN QUERY SELECT count(*)::integer, min(s.sent_at), max(s.sent_at)
        FROM sidestep.said_in(p_tenant, p_chat, sidestep.id_floor(p_day::timestamp AT TIME ZONE 'UTC'), sidestep.id_floor((p_day + 1)::timestamp AT TIME ZONE 'UTC')) s
        HAVING count(*) > 0;
END $$;
COMMENT ON FUNCTION sidestep.said_on IS 'How much was said in a chat on a day, in UTC; no row: nothing.';

CREATE FUNCTION sidestep.first_kept(p_tenant bigint, p_chat bigint) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (SELECT min(s.id) FROM sidestep.newest_said(p_tenant, p_chat, 0, 9223372036854775807) s);
END $$;
COMMENT ON FUNCTION sidestep.first_kept IS 'The oldest message that a conversation''s own row shows: what is older is in its archives.';

CREATE FUNCTION sidestep.archives_of(p_tenant bigint, p_chat bigint, p_day date, p_before bigint)
RETURNS TABLE (first_id bigint, messages jsonb, message_count integer, first_message_at timestamptz, last_message_at timestamptz)
LANGUAGE plpgsql STABLE ROWS 1 AS $$
BEGIN
    RETURN QUERY
        SELECT min(p.id), jsonb_agg(p.said ORDER BY p.id), count(*)::integer, min(p.sent_at), max(p.sent_at)
          FROM (SELECT m.*, (row_number() OVER onwards - 1) / 500 + sum(octet_length(m.said::text)) OVER onwards / 900000 AS part
                  FROM sidestep.said_in(p_tenant, p_chat, sidestep.id_floor(p_day::timestamp AT TIME ZONE 'UTC'),
                                        least(sidestep.id_floor((p_day + 1)::timestamp AT TIME ZONE 'UTC'), p_before)) m
                WINDOW onwards AS (ORDER BY m.id)) p
         GROUP BY p.part;
END $$;
COMMENT ON FUNCTION sidestep.archives_of IS 'What was said in a chat on a day and before a message, 500 messages or 0.9 MB at a time.';

CREATE FUNCTION sidestep.days_between(p_first date, p_last date) RETURNS SETOF date LANGUAGE plpgsql IMMUTABLE ROWS 300 AS $$
BEGIN
    RETURN QUERY SELECT p_first + n FROM generate_series(0, p_last - p_first) n;
END $$;
COMMENT ON FUNCTION sidestep.days_between IS 'The days of a span, both ends included.';

CREATE FUNCTION sidestep.recorded_days() RETURNS SETOF date LANGUAGE plpgsql STABLE ROWS 300 AS $$
BEGIN
    RETURN QUERY SELECT d FROM (SELECT min(first_id) AS first_id, max(end_id) AS end_id FROM sidestep.message_months()) m,
                               sidestep.days_between((sidestep.id_time(m.first_id) AT TIME ZONE 'UTC')::date, (sidestep.id_time(m.end_id) AT TIME ZONE 'UTC')::date) d;
END $$;
COMMENT ON FUNCTION sidestep.recorded_days IS 'The days of all months that there are.';

CREATE OR REPLACE VIEW face_crm.chat_conversations WITH (security_invoker = true) AS
SELECT sidestep.uuid_of(c.chat_id, 0) AS id, c.channel AS platform, coalesce(c.conversation_id, c.jid) AS external_conversation_id,
       p.person_id, c.entity_table, c.entity_id,
       CASE WHEN NOT c.is_group THEN coalesce('+' || p.phone, sidestep.username_of(p.jid), p.lid, c.jid) END AS participant_identifier,
       coalesce(c.name, p.push_name) AS participant_name, sidestep.messages_between(c.tenant_id, c.chat_id, 0, 9223372036854775807) AS messages,
       sidestep.conversation_count(c.tenant_id, c.chat_id, (SELECT sidestep.uncounted_months(sidestep.face_tenant()))) AS message_count,
       coalesce(s.last_message_at, c.created_at) AS last_message_at, sidestep.conversation_preview(c.tenant_id, c.chat_id) AS last_message_preview,
       c.user_id, coalesce((SELECT min(t.created_at) FROM sidestep.threads t WHERE t.tenant_id = c.tenant_id AND t.chat_id = c.chat_id), c.created_at) AS created_at,
       greatest(c.updated_at, s.last_message_at) AS updated_at
  FROM sidestep.chats c
  JOIN sidestep.chat_state s ON s.tenant_id = c.tenant_id AND s.chat_id = c.chat_id
  LEFT JOIN sidestep.contacts p ON p.tenant_id = c.tenant_id AND p.contact_id = c.contact_id
 WHERE c.tenant_id = (SELECT sidestep.face_tenant()) AND c.merged_into IS NULL;

-- A chat's first thread begins no later than its first message: no day before it needs to be looked at.
CREATE OR REPLACE VIEW face_crm.chat_conversation_archives WITH (security_invoker = true) AS
SELECT sidestep.uuid_of(c.chat_id, a.first_id) AS id, sidestep.uuid_of(c.chat_id, 0) AS conversation_id, c.channel AS platform,
       coalesce(c.conversation_id, c.jid) AS external_conversation_id, d.date, a.messages, a.message_count, a.first_message_at, a.last_message_at
  FROM sidestep.chats c
 CROSS JOIN LATERAL (SELECT sidestep.first_kept(c.tenant_id, c.chat_id) AS first_id, (min(t.created_at) AT TIME ZONE 'UTC')::date AS first_day
                       FROM sidestep.threads t WHERE t.tenant_id = c.tenant_id AND t.chat_id = c.chat_id) h
 CROSS JOIN LATERAL sidestep.days_between(h.first_day, (sidestep.id_time(h.first_id) AT TIME ZONE 'UTC')::date) d (date)
 CROSS JOIN LATERAL sidestep.archives_of(c.tenant_id, c.chat_id, d.date, h.first_id) a
 WHERE c.tenant_id = (SELECT sidestep.face_tenant()) AND c.merged_into IS NULL;

CREATE OR REPLACE VIEW face_crm.chat_conversation_days WITH (security_invoker = true) AS
SELECT coalesce(c.conversation_id, c.jid) AS external_conversation_id, d.date, c.channel AS platform, sidestep.uuid_of(c.chat_id, 0) AS conversation_id,
       sidestep.messages_between(c.tenant_id, c.chat_id, sidestep.id_floor(d.date::timestamp AT TIME ZONE 'UTC'),
                                 sidestep.id_floor((d.date + 1)::timestamp AT TIME ZONE 'UTC')) AS messages,
       a.message_count, a.first_message_at, a.last_message_at
  FROM sidestep.chats c
  JOIN sidestep.chat_state s ON s.tenant_id = c.tenant_id AND s.chat_id = c.chat_id
 CROSS JOIN LATERAL (SELECT (min(t.created_at) AT TIME ZONE 'UTC')::date AS date
                       FROM sidestep.threads t WHERE t.tenant_id = c.tenant_id AND t.chat_id = c.chat_id) f
 CROSS JOIN sidestep.recorded_days() d (date)
 CROSS JOIN LATERAL sidestep.said_on(c.tenant_id, c.chat_id, d.date) a
 WHERE c.tenant_id = (SELECT sidestep.face_tenant()) AND c.merged_into IS NULL
   AND d.date BETWEEN f.date AND (sidestep.id_time(s.last_message_id) AT TIME ZONE 'UTC')::date;

DROP FUNCTION sidestep.conversation_messages;

CREATE FUNCTION sidestep.find_conversation(p_tenant bigint, p_channel text, p_called text) RETURNS bigint LANGUAGE sql STABLE
RETURN (SELECT coalesce(merged_into, chat_id) FROM sidestep.chats
         WHERE tenant_id = p_tenant AND coalesce(conversation_id, jid) = p_called AND channel = p_channel ORDER BY merged_into NULLS FIRST, chat_id LIMIT 1);
COMMENT ON FUNCTION sidestep.find_conversation IS 'The chat that another system calls so, also where it is another''s by now.';

-- A conversation that is known is found without a lock, so that whoever writes many holds up nobody who meets new people.
CREATE OR REPLACE FUNCTION sidestep.meet_conversation(p_tenant bigint, p_channel text, p_called text, p_who text, p_name text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_chat bigint;
    v_account bigint;
    v_jid text;
    v_number text := CASE WHEN p_who ~ '^[\s\d+()./-]{6,32}$' THEN regexp_replace(p_who, '^\s*00|\D', '', 'g') END;
    v_person text := coalesce(v_number || '@s.whatsapp.net', CASE WHEN p_channel <> 'whatsapp' THEN lower(ltrim(coalesce(p_who, p_called), '@')) || '@' || p_channel END);
BEGIN
    v_chat := sidestep.find_conversation(p_tenant, p_channel, p_called);
    IF v_chat IS NULL THEN
        PERFORM pg_advisory_xact_lock(hashtextextended('sidestep.identify', p_tenant)); -- of those who meet it at once, one makes it
        v_chat := sidestep.find_conversation(p_tenant, p_channel, p_called);
    END IF;
    IF v_chat IS NOT NULL THEN
        RETURN v_chat;
    END IF;
    IF p_channel = 'whatsapp' THEN
        v_jid := CASE WHEN p_called LIKE '%@%' THEN p_called
                      WHEN p_called ~ '^[\s\d+()./-]{6,32}$' THEN regexp_replace(p_called, '^\s*00|\D', '', 'g') || '@s.whatsapp.net' ELSE v_person END;
        IF v_jid IS NULL THEN
            PERFORM face_crm.refuse('participant_identifier', 'a conversation on WhatsApp needs the phone number of its participant, or a group''s id');
        END IF;
        -- Under the number as the other system writes it, or as WhatsApp does.
        SELECT sidestep.find_chat(p_tenant, 'whatsapp', n || '@s.whatsapp.net') AS chat INTO v_chat
          FROM unnest(sidestep.number_variants(substring(v_jid FROM '^(\d+)@s\.whatsapp\.net$'))) n ORDER BY chat NULLS LAST LIMIT 1;
        v_chat := coalesce(v_chat, sidestep.meet_chat(p_tenant, 'whatsapp', v_jid, v_jid LIKE '%@g.us', p_name));
    ELSE
        -- As import does: what is on another platform belongs to an account of its own, which nobody serves.
        SELECT account_id INTO v_account FROM sidestep.accounts WHERE tenant_id = p_tenant AND channel = p_channel ORDER BY removed_at IS NOT NULL, account_id LIMIT 1;
        IF v_account IS NULL THEN
            INSERT INTO sidestep.accounts (tenant_id, name, channel, created_at)
            SELECT p_tenant, t.instance_name || '-' || p_channel, p_channel, now() FROM sidestep.tenants t WHERE t.tenant_id = p_tenant
            RETURNING account_id INTO v_account;
        END IF;
        v_chat := sidestep.identify_conversation(p_tenant, v_account, p_channel, p_called, v_person, false, NULL, now());
    END IF;
    UPDATE sidestep.chats SET conversation_id = p_called
     WHERE tenant_id = p_tenant AND chat_id = v_chat AND conversation_id IS NULL AND jid <> p_called;
    IF EXISTS (SELECT FROM sidestep.chats WHERE tenant_id = p_tenant AND chat_id = v_chat AND coalesce(conversation_id, jid) <> p_called) THEN
        RAISE EXCEPTION 'the conversation "%" is here already, under another external_conversation_id', p_called
            USING ERRCODE = 'unique_violation', TABLE = 'chat_conversations', COLUMN = 'external_conversation_id';
    END IF;
    RETURN v_chat;
END $$;
