-- migrate:up
-- The face of the messaging import document: chat_conversations with their archives and days, people, messaging_connections,
-- for one tenant. Nothing is copied: an array of messages is made when somebody asks for it.

CREATE INDEX chats_conversation ON sidestep.chats (tenant_id, coalesce(conversation_id, jid), channel);
CREATE INDEX chats_uuid ON sidestep.chats (tenant_id, sidestep.uuid_of(chat_id, 0));

CREATE FUNCTION sidestep.follow_conversation() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE sidestep.chats
       SET conversation_id = coalesce(conversation_id, NEW.conversation_id), user_id = coalesce(user_id, NEW.user_id),
           entity_table = CASE WHEN entity_id IS NULL THEN coalesce(NEW.entity_table, entity_table) ELSE entity_table END,
           entity_id = coalesce(entity_id, NEW.entity_id)
     WHERE tenant_id = NEW.tenant_id AND chat_id = NEW.merged_into;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION sidestep.follow_conversation IS 'Two chats have become one, which goes by what either was called and linked to; the other one still leads to it.';
CREATE TRIGGER follow_conversation AFTER UPDATE OF merged_into ON sidestep.chats
    FOR EACH ROW WHEN (NEW.merged_into IS DISTINCT FROM OLD.merged_into AND NEW.merged_into IS NOT NULL
                       AND (NEW.conversation_id IS NOT NULL OR NEW.entity_id IS NOT NULL OR NEW.user_id IS NOT NULL))
    EXECUTE FUNCTION sidestep.follow_conversation();

INSERT INTO sidestep.vocabulary (face, idea, word, means, is_said, is_heard) VALUES
    ('crm', 'type', 'photo', 'image', false, true),
    ('crm', 'type', 'file', 'document', false, true),
    ('crm', 'type', 'voice', 'audio', false, true);
INSERT INTO sidestep.face_tables VALUES
    ('crm', 'chat_conversations', '{chats,chat_state,messages,message_keys,tallies}'),
    ('crm', 'chat_conversation_archives', '{messages}'),
    ('crm', 'chat_conversation_days', '{messages}'),
    ('crm', 'people', '{people}'),
    ('crm', 'messaging_connections', '{accounts}');

CREATE SCHEMA face_crm;
COMMENT ON SCHEMA face_crm IS 'The store as the messaging import document names it: chat_conversations, their archives and days, people, messaging_connections. See docs/faces.md.';

CREATE FUNCTION face_crm.pg_total_relation_size(text) RETURNS bigint LANGUAGE sql STABLE
RETURN sidestep.relation_size('crm', $1);
COMMENT ON FUNCTION face_crm.pg_total_relation_size IS 'As the catalog''s; of a view here, the size of what is behind it.';

-- What was said ------------------------------------------------------------------------------------------
-- Each conversation is read by a function: the views' own plans stay small, and a server that compiles what it takes for
-- costly (jit) does not spend seconds on them.

CREATE FUNCTION sidestep.said_in(p_tenant bigint, p_chat bigint, p_from bigint, p_before bigint) RETURNS TABLE (id bigint, sent_at timestamptz, said jsonb)
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
COMMENT ON FUNCTION sidestep.said_in IS 'What was said in a chat within a span of ids, as the messages of a conversation are printed; without changes, what was deleted, and what the bot never said.';

CREATE FUNCTION sidestep.newest_said(p_tenant bigint, p_chat bigint, p_from bigint, p_before bigint) RETURNS TABLE (id bigint, sent_at timestamptz, said jsonb)
LANGUAGE sql STABLE AS $$
    SELECT w.id, w.sent_at, w.said
      FROM (SELECT n.*, row_number() OVER backwards AS nth, sum(octet_length(n.said::text)) OVER backwards AS bytes
              FROM (SELECT * FROM sidestep.said_in(p_tenant, p_chat, p_from, p_before) s ORDER BY s.id DESC LIMIT 500) n
            WINDOW backwards AS (ORDER BY n.id DESC)) w
     WHERE w.nth = 1 OR w.bytes <= 1000000
$$;
COMMENT ON FUNCTION sidestep.newest_said IS 'The newest of it: 500 messages at most, and 1 MB.';

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

CREATE FUNCTION sidestep.uncounted_months(p_tenant bigint) RETURNS int8multirange LANGUAGE sql STABLE
RETURN (SELECT coalesce(range_agg(int8range(m.first_id, m.end_id)), '{}') FROM sidestep.message_months() m
         WHERE NOT EXISTS (SELECT FROM sidestep.tallied_months t JOIN pg_trigger g ON g.tgrelid = m.part AND g.tgname = 'note_change'
                            WHERE t.tenant_id = p_tenant AND t.first_id = m.first_id AND NOT t.changed));
COMMENT ON FUNCTION sidestep.uncounted_months IS 'The spans of ids whose sums do not stand in tallies: the month that is open, and what has changed since it was counted.';

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

-- chat_conversations -------------------------------------------------------------------------------------

-- What takes time is asked of functions, in columns of their own: it is done for the rows that are shown, and for columns that are asked for.
CREATE VIEW face_crm.chat_conversations WITH (security_invoker = true) AS
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
COMMENT ON VIEW face_crm.chat_conversations IS 'One record per unique conversation thread.';
ALTER VIEW face_crm.chat_conversations ALTER COLUMN messages SET DEFAULT '[]';

CREATE FUNCTION face_crm.refuse(p_column text, p_why text) RETURNS void LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RAISE EXCEPTION '%: %', p_column, p_why USING ERRCODE = 'check_violation', TABLE = 'chat_conversations', COLUMN = split_part(p_column, '[', 1);
END $$;
COMMENT ON FUNCTION face_crm.refuse IS 'Refuses a row, and says where it is wrong.';

CREATE FUNCTION sidestep.find_conversation(p_tenant bigint, p_channel text, p_called text) RETURNS bigint LANGUAGE sql STABLE
RETURN (SELECT coalesce(merged_into, chat_id) FROM sidestep.chats
         WHERE tenant_id = p_tenant AND coalesce(conversation_id, jid) = p_called AND channel = p_channel ORDER BY merged_into NULLS FIRST, chat_id LIMIT 1);
COMMENT ON FUNCTION sidestep.find_conversation IS 'The chat that another system calls so, also where it is another''s by now.';

-- A conversation that is known is found without a lock, so that whoever writes many holds up nobody who meets new people.
CREATE FUNCTION sidestep.meet_conversation(p_tenant bigint, p_channel text, p_called text, p_who text, p_name text) RETURNS bigint LANGUAGE plpgsql AS $$
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
COMMENT ON FUNCTION sidestep.meet_conversation IS 'The chat that another system calls so, or that is with this participant; made if new.';

CREATE FUNCTION face_crm.write_messages(p_tenant bigint, p_chat bigint, p_messages jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_one record;
    v_erased text[];
    v_at timestamptz;
    v_type text;
    v_id bigint;
BEGIN
    IF jsonb_typeof(p_messages) <> 'array' THEN
        PERFORM face_crm.refuse('messages', 'it is an array of messages');
    END IF;
    v_erased := sidestep.erased_among(p_tenant, ARRAY(SELECT m ->> 'id' FROM jsonb_array_elements(p_messages) m WHERE m ->> 'id' IS NOT NULL));
    FOR v_one IN
        SELECT x.said, x.said ->> 'id' AS id, format('messages[%s]', x.nth - 1) AS place FROM jsonb_array_elements(p_messages) WITH ORDINALITY x (said, nth)
         WHERE (x.said ->> 'id') IS NULL
            OR NOT (starts_with(x.said ->> 'id', 'sidestep:') OR (x.said ->> 'id') = ANY (v_erased)) AND NOT EXISTS (
               SELECT FROM sidestep.message_keys k WHERE k.tenant_id = p_tenant AND k.external_id = x.said ->> 'id' AND k.chat_id = p_chat)
         ORDER BY x.nth
    LOOP
        IF coalesce(v_one.id, '') = '' THEN
            PERFORM face_crm.refuse(v_one.place, 'a message needs an id');
        ELSIF v_one.said ->> 'direction' IS NULL OR v_one.said ->> 'direction' NOT IN ('inbound', 'outbound') THEN
            PERFORM face_crm.refuse(v_one.place, 'direction is inbound or outbound');
        END IF;
        BEGIN
            v_at := (v_one.said ->> 'sent_at')::timestamptz;
        EXCEPTION WHEN data_exception THEN
            PERFORM face_crm.refuse(v_one.place, 'sent_at is a time, such as 2026-02-01T10:30:00Z');
        END;
        v_type := sidestep.hear('crm', 'type', coalesce(v_one.said ->> 'type', 'text'));
        IF v_type NOT IN ('text', 'image', 'video', 'audio', 'document', 'sticker', 'location', 'contact', 'poll', 'system') THEN
            v_type := 'unknown';
        END IF;
        v_id := sidestep.write_message(p_tenant, p_chat, v_one.id, v_at, v_at, v_one.said ->> 'direction' = 'outbound', v_type,
            v_one.said ->> 'content', v_one.said ->> 'media_url', NULL, NULL, NULL, NULL, NULL, false);
        IF v_id IS NOT NULL AND v_one.said ->> 'media_url' IS NOT NULL AND v_type IN ('image', 'video', 'audio', 'document', 'sticker') THEN
            PERFORM sidestep.know_media(p_tenant, sidestep.chat_now(p_tenant, p_chat), v_id, v_type, v_one.said ->> 'media_url', NULL, NULL, NULL, now());
        END IF;
    END LOOP;
END $$;
COMMENT ON FUNCTION face_crm.write_messages IS 'Records those messages of an array that are not here yet. What is here and not in the array stays.';

CREATE FUNCTION face_crm.link_person(p_tenant bigint, p_chat bigint, p_person uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF p_person IS NOT NULL AND NOT EXISTS (SELECT FROM sidestep.people WHERE tenant_id = p_tenant AND person_id = p_person) THEN
        RAISE EXCEPTION 'insert or update on table "chat_conversations" violates its foreign key to people'
            USING ERRCODE = 'foreign_key_violation', TABLE = 'chat_conversations', COLUMN = 'person_id',
                  DETAIL = format('Key (person_id)=(%s) is not present in table "people".', p_person);
    END IF;
    UPDATE sidestep.contacts p SET person_id = p_person, updated_at = now() FROM sidestep.chats c
     WHERE c.tenant_id = p_tenant AND c.chat_id = p_chat AND NOT c.is_group AND p.tenant_id = p_tenant AND p.contact_id = c.contact_id;
    IF NOT FOUND THEN
        PERFORM face_crm.refuse('person_id', 'a group is no person''s');
    END IF;
END $$;
COMMENT ON FUNCTION face_crm.link_person IS 'Says whose a conversation is, with all others that are with the same contact.';

CREATE FUNCTION face_crm.write_conversation() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_tenant bigint := sidestep.meet_tenant();
    v_chat bigint;
BEGIN
    PERFORM sidestep.require('chat_conversations', to_jsonb(NEW), 'platform', 'external_conversation_id', 'messages');
    IF NEW.platform NOT IN ('whatsapp', 'signal', 'telegram', 'wechat', 'email', 'discord') THEN
        PERFORM face_crm.refuse('platform', format('it is whatsapp, signal, telegram, wechat, email or discord, not "%s"', NEW.platform));
    ELSIF TG_OP = 'INSERT' THEN
        v_chat := sidestep.meet_conversation(v_tenant, NEW.platform, NEW.external_conversation_id, NEW.participant_identifier, NEW.participant_name);
        SELECT c.* INTO OLD FROM face_crm.chat_conversations c WHERE c.id = sidestep.uuid_of(v_chat, 0);
    ELSE
        PERFORM sidestep.refuse_change('chat_conversations', to_jsonb(OLD), to_jsonb(NEW), 'id', 'platform', 'external_conversation_id', 'participant_identifier');
        SELECT m.chat_id INTO v_chat FROM sidestep.message_of(OLD.id) m;
    END IF;
    -- An INSERT says what it names; what it leaves out stays as it was, should the conversation be here already.
    IF NEW.person_id IS DISTINCT FROM OLD.person_id AND (TG_OP = 'UPDATE' OR NEW.person_id IS NOT NULL) THEN
        PERFORM face_crm.link_person(v_tenant, v_chat, NEW.person_id);
    END IF;
    IF TG_OP = 'INSERT' THEN
        NEW.entity_table := coalesce(NEW.entity_table, OLD.entity_table);
        NEW.entity_id := coalesce(NEW.entity_id, OLD.entity_id);
        NEW.user_id := coalesce(NEW.user_id, OLD.user_id);
        NEW.participant_name := coalesce(NEW.participant_name, OLD.participant_name);
    END IF;
    UPDATE sidestep.chats
       SET entity_table = NEW.entity_table, entity_id = NEW.entity_id, user_id = NEW.user_id,
           name = CASE WHEN is_group THEN NEW.participant_name ELSE name END, updated_at = now()
     WHERE tenant_id = v_tenant AND chat_id = v_chat
       AND (NEW.entity_table, NEW.entity_id, NEW.user_id, NEW.participant_name)
           IS DISTINCT FROM (OLD.entity_table, OLD.entity_id, OLD.user_id, OLD.participant_name);
    UPDATE sidestep.contacts p SET push_name = NEW.participant_name, updated_at = now() FROM sidestep.chats c
     WHERE c.tenant_id = v_tenant AND c.chat_id = v_chat AND NOT c.is_group AND p.tenant_id = v_tenant AND p.contact_id = c.contact_id
       AND NEW.participant_name IS DISTINCT FROM OLD.participant_name;
    IF NEW.messages IS DISTINCT FROM OLD.messages THEN
        PERFORM face_crm.write_messages(v_tenant, v_chat, NEW.messages);
    END IF;
    SELECT c.* INTO NEW FROM face_crm.chat_conversations c WHERE c.id = sidestep.uuid_of(sidestep.chat_now(v_tenant, v_chat), 0);
    RETURN NEW;
END $$;
COMMENT ON FUNCTION face_crm.write_conversation IS 'The document''s upsert: an INSERT of a conversation that is here already adds to it. Counts, times and the preview are those of the messages, whatever is written.';
CREATE TRIGGER write_conversation INSTEAD OF INSERT OR UPDATE ON face_crm.chat_conversations
    FOR EACH ROW EXECUTE FUNCTION face_crm.write_conversation();

-- Archives and days --------------------------------------------------------------------------------------
-- A chat's first thread begins no later than its first message: no day before it needs to be looked at.

CREATE VIEW face_crm.chat_conversation_archives WITH (security_invoker = true) AS
SELECT sidestep.uuid_of(c.chat_id, a.first_id) AS id, sidestep.uuid_of(c.chat_id, 0) AS conversation_id, c.channel AS platform,
       coalesce(c.conversation_id, c.jid) AS external_conversation_id, d.date, a.messages, a.message_count, a.first_message_at, a.last_message_at
  FROM sidestep.chats c
 CROSS JOIN LATERAL (SELECT sidestep.first_kept(c.tenant_id, c.chat_id) AS first_id, (min(t.created_at) AT TIME ZONE 'UTC')::date AS first_day
                       FROM sidestep.threads t WHERE t.tenant_id = c.tenant_id AND t.chat_id = c.chat_id) h
 CROSS JOIN LATERAL sidestep.days_between(h.first_day, (sidestep.id_time(h.first_id) AT TIME ZONE 'UTC')::date) d (date)
 CROSS JOIN LATERAL sidestep.archives_of(c.tenant_id, c.chat_id, d.date, h.first_id) a
 WHERE c.tenant_id = (SELECT sidestep.face_tenant()) AND c.merged_into IS NULL;
COMMENT ON VIEW face_crm.chat_conversation_archives IS 'What of a conversation does not fit into its row, day by day, 500 messages or 1 MB at a time.';

CREATE VIEW face_crm.chat_conversation_days WITH (security_invoker = true) AS
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
COMMENT ON VIEW face_crm.chat_conversation_days IS 'One row per conversation per day, in UTC, with its newest messages within the limits.';

-- people -------------------------------------------------------------------------------------------------

CREATE VIEW face_crm.people WITH (security_invoker = true) AS
SELECT p.person_id AS id, p.name, p.phone, p.username, p.created_at, p.updated_at
  FROM sidestep.people p WHERE p.tenant_id = (SELECT sidestep.face_tenant());
COMMENT ON VIEW face_crm.people IS 'People whose conversations these are.';
ALTER VIEW face_crm.people ALTER COLUMN id SET DEFAULT gen_random_uuid();
ALTER VIEW face_crm.people ALTER COLUMN created_at SET DEFAULT now();
ALTER VIEW face_crm.people ALTER COLUMN updated_at SET DEFAULT now();

CREATE FUNCTION face_crm.write_person() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_tenant bigint := sidestep.meet_tenant();
BEGIN
    NEW.updated_at := now();
    IF TG_OP = 'INSERT' THEN
        INSERT INTO sidestep.people (tenant_id, person_id, name, phone, username, created_at, updated_at)
        VALUES (v_tenant, NEW.id, NEW.name, NEW.phone, NEW.username, NEW.created_at, NEW.updated_at);
    ELSE
        PERFORM sidestep.refuse_change('people', to_jsonb(OLD), to_jsonb(NEW), 'id', 'created_at');
        UPDATE sidestep.people SET name = NEW.name, phone = NEW.phone, username = NEW.username, updated_at = NEW.updated_at
         WHERE tenant_id = v_tenant AND person_id = OLD.id;
    END IF;
    RETURN NEW;
END $$;
COMMENT ON FUNCTION face_crm.write_person IS 'Whoever has this number or this username has the conversations with it from now on.';
CREATE TRIGGER write_person INSTEAD OF INSERT OR UPDATE ON face_crm.people FOR EACH ROW EXECUTE FUNCTION face_crm.write_person();

-- messaging_connections ----------------------------------------------------------------------------------

CREATE VIEW face_crm.messaging_connections WITH (security_invoker = true) AS
SELECT sidestep.uuid_of(a.account_id, -1) AS id, a.channel AS platform, a.name, '+' || substring(a.jid FROM '^(\d+)@s\.whatsapp\.net$') AS identifier,
       CASE WHEN a.removed_at IS NOT NULL OR a.moved_to IS NOT NULL THEN 'disconnected'
            WHEN a.paired_at IS NULL AND a.channel = 'whatsapp' THEN 'pending' ELSE 'connected' END AS status,
       a.paired_at AS connected_at, a.created_at
  FROM sidestep.accounts a WHERE a.tenant_id = (SELECT sidestep.face_tenant());
COMMENT ON VIEW face_crm.messaging_connections IS 'The numbers that are linked, and the accounts on other platforms that are recorded for.';

SELECT sidestep.wall_off();
