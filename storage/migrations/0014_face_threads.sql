-- migrate:up
-- The face of the message schema with et_threads and et_messages: leads of another system, one thread active per lead and channel.

CREATE INDEX chats_lead ON sidestep.chats (tenant_id, coalesce(lead_id, -chat_id::integer));

CREATE FUNCTION sidestep.follow_lead() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE sidestep.chats SET lead_id = NEW.lead_id WHERE tenant_id = NEW.tenant_id AND chat_id = NEW.merged_into AND lead_id IS NULL;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION sidestep.follow_lead IS 'Two chats have become one, which goes by the number that either had; the other one still leads to it.';
CREATE TRIGGER follow_lead AFTER UPDATE OF merged_into ON sidestep.chats
    FOR EACH ROW WHEN (NEW.merged_into IS DISTINCT FROM OLD.merged_into AND NEW.merged_into IS NOT NULL AND NEW.lead_id IS NOT NULL)
    EXECUTE FUNCTION sidestep.follow_lead();

-- The face's thread ids are integers: its look-ups by them are this index's.
CREATE INDEX threads_number ON sidestep.threads (tenant_id, (thread_id::integer));

INSERT INTO sidestep.vocabulary (face, idea, word, means, is_said, is_heard) VALUES
    ('threads', 'type', 'conversation', 'text', false, true),
    ('threads', 'type', 'photo', 'image', false, true),
    ('threads', 'type', 'ptt', 'audio', false, true);
INSERT INTO sidestep.face_tables VALUES
    ('threads', 'et_threads', '{threads}'),
    ('threads', 'et_messages', '{messages,message_payloads,message_keys}');

CREATE SCHEMA face_threads;
COMMENT ON SCHEMA face_threads IS 'The store as the document of et_threads and et_messages names it. See docs/faces.md.';

CREATE FUNCTION face_threads.pg_total_relation_size(text) RETURNS bigint LANGUAGE sql STABLE
RETURN sidestep.relation_size('threads', $1);
COMMENT ON FUNCTION face_threads.pg_total_relation_size IS 'As the catalog''s; of a view here, the size of what is behind it.';
CREATE FUNCTION face_threads.assign_thread() RETURNS void LANGUAGE sql AS '';
COMMENT ON FUNCTION face_threads.assign_thread IS 'Does nothing: it holds the name, so that the document''s trigger, pasted here, is refused at once.';

-- Who and where ------------------------------------------------------------------------------------------

CREATE FUNCTION face_threads.meet_tenant(p_tenant bigint, p_table text) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    IF sidestep.role_tenant() IS NULL AND coalesce(current_setting('sidestep.tenant', true), '') = ''
       AND NOT EXISTS (SELECT FROM sidestep.tenants WHERE tenant_id = p_tenant) THEN
        PERFORM pg_advisory_xact_lock(hashtextextended('sidestep.add_tenant', p_tenant)); -- of those who need it at once, one makes it
        IF NOT EXISTS (SELECT FROM sidestep.tenants WHERE tenant_id = p_tenant) THEN
            PERFORM sidestep.add_tenant('tenant-' || p_tenant, NULL, NULL, p_tenant);
        END IF;
    END IF;
    RETURN sidestep.own_tenant(p_tenant, p_table);
END $$;
COMMENT ON FUNCTION face_threads.meet_tenant IS 'The tenant that a row names, made if new: the document has no table for them.';

CREATE FUNCTION face_threads.find_lead(p_tenant bigint, p_lead integer, p_channel text) RETURNS bigint LANGUAGE sql STABLE
RETURN (SELECT coalesce(merged_into, chat_id) FROM sidestep.chats
         WHERE tenant_id = p_tenant AND coalesce(lead_id, -chat_id::integer) = p_lead AND channel = p_channel ORDER BY merged_into NULLS FIRST LIMIT 1);
COMMENT ON FUNCTION face_threads.find_lead IS 'The chat with a lead on a channel, also where it is another''s by now.';

CREATE FUNCTION face_threads.meet_lead(p_tenant bigint, p_lead integer, p_channel text, p_jid text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_chat bigint := face_threads.find_lead(p_tenant, p_lead, p_channel);
BEGIN
    IF v_chat IS NULL THEN
        PERFORM pg_advisory_xact_lock(hashtextextended('sidestep.identify', p_tenant)); -- of those who meet it at once, one makes it
        v_chat := face_threads.find_lead(p_tenant, p_lead, p_channel);
    END IF;
    IF v_chat IS NOT NULL THEN
        RETURN v_chat;
    END IF;
    v_chat := CASE WHEN p_jid IS NOT NULL THEN sidestep.meet_chat(p_tenant, p_channel, p_jid, p_jid LIKE '%@g.us', NULL) END;
    IF v_chat IS NULL OR EXISTS (SELECT FROM sidestep.chats WHERE tenant_id = p_tenant AND chat_id = v_chat AND lead_id IS NOT NULL) THEN
        v_chat := sidestep.meet_chat(p_tenant, p_channel, 'lead:' || p_lead, false, NULL);
    END IF;
    UPDATE sidestep.chats SET lead_id = p_lead, updated_at = now() WHERE tenant_id = p_tenant AND chat_id = v_chat;
    RETURN v_chat;
END $$;
COMMENT ON FUNCTION face_threads.meet_lead IS 'The chat with a lead on a channel; made if new, or found by the address that the platform''s event tells.';

-- et_threads ---------------------------------------------------------------------------------------------

CREATE VIEW face_threads.et_threads WITH (security_invoker = true) AS
SELECT t.thread_id::integer AS id, t.tenant_id::integer, coalesce(c.lead_id, -c.chat_id::integer) AS lead_id, c.channel::varchar(50),
       t.status::varchar(20), t.created_at::timestamp
  FROM sidestep.threads t
  JOIN sidestep.chats c ON c.tenant_id = t.tenant_id AND c.chat_id = t.chat_id
 WHERE t.tenant_id = ANY ((SELECT sidestep.face_tenants())::bigint[]) AND c.tenant_id = ANY ((SELECT sidestep.face_tenants())::bigint[]);
COMMENT ON VIEW face_threads.et_threads IS 'Conversation threads.';
ALTER VIEW face_threads.et_threads ALTER COLUMN status SET DEFAULT 'active';
ALTER VIEW face_threads.et_threads ALTER COLUMN created_at SET DEFAULT now();

CREATE FUNCTION face_threads.write_thread() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_tenant bigint;
    v_chat bigint;
BEGIN
    PERFORM sidestep.require('et_threads', to_jsonb(NEW), 'tenant_id', 'lead_id', 'channel', 'status', 'created_at');
    IF NEW.status NOT IN ('active', 'archived') THEN
        RAISE EXCEPTION 'a thread is active or archived, not "%"', NEW.status USING ERRCODE = 'check_violation', TABLE = 'et_threads', COLUMN = 'status';
    END IF;
    IF TG_OP = 'INSERT' THEN
        v_tenant := face_threads.meet_tenant(NEW.tenant_id, 'et_threads');
        v_chat := face_threads.meet_lead(v_tenant, NEW.lead_id, NEW.channel, NULL);
        -- A second active thread is refused by threads_one_active.
        INSERT INTO sidestep.threads (tenant_id, chat_id, status, created_at, archived_at)
        VALUES (v_tenant, v_chat, NEW.status, NEW.created_at, CASE WHEN NEW.status = 'archived' THEN now() END)
        RETURNING thread_id INTO NEW.id;
        IF NEW.status = 'active' THEN
            UPDATE sidestep.chat_state SET active_thread_id = NEW.id, epoch = epoch + 1 WHERE tenant_id = v_tenant AND chat_id = v_chat;
        END IF;
        RETURN NEW;
    END IF;
    PERFORM sidestep.refuse_change('et_threads', to_jsonb(OLD), to_jsonb(NEW), 'id', 'tenant_id', 'channel', 'created_at');
    SELECT tenant_id, chat_id INTO STRICT v_tenant, v_chat FROM sidestep.threads WHERE tenant_id = OLD.tenant_id AND thread_id = OLD.id;
    IF NEW.lead_id <> OLD.lead_id THEN
        IF face_threads.find_lead(v_tenant, NEW.lead_id, OLD.channel) IS NOT NULL THEN
            RAISE EXCEPTION 'lead % has a chat on % already', NEW.lead_id, OLD.channel USING ERRCODE = 'unique_violation', TABLE = 'et_threads', COLUMN = 'lead_id';
        END IF;
        UPDATE sidestep.chats SET lead_id = NEW.lead_id, updated_at = now() WHERE tenant_id = v_tenant AND chat_id = v_chat;
    END IF;
    IF NEW.status = 'archived' AND OLD.status = 'active' THEN
        PERFORM sidestep.reset(v_tenant, v_chat, now());
    ELSIF NEW.status = 'active' AND OLD.status = 'archived' THEN
        PERFORM sidestep.reset(v_tenant, v_chat, now());
        UPDATE sidestep.threads SET status = 'active', archived_at = NULL WHERE tenant_id = v_tenant AND thread_id = OLD.id;
        UPDATE sidestep.chat_state SET active_thread_id = OLD.id WHERE tenant_id = v_tenant AND chat_id = v_chat;
    END IF;
    RETURN NEW;
END $$;
COMMENT ON FUNCTION face_threads.write_thread IS 'Archiving is the bot''s own reset; making an old thread active archives the one that was; another lead_id links the chat to that lead.';
CREATE TRIGGER write_thread INSTEAD OF INSERT OR UPDATE ON face_threads.et_threads FOR EACH ROW EXECUTE FUNCTION face_threads.write_thread();

-- et_messages --------------------------------------------------------------------------------------------

CREATE VIEW face_threads.et_messages WITH (security_invoker = true) AS
SELECT m.id, m.tenant_id::integer, coalesce(c.lead_id, -c.chat_id::integer) AS lead_id, t.thread_id::integer, c.channel::varchar(50),
       coalesce(m.external_id, o.external_id, 'sidestep:' || m.id)::varchar(255) AS message_id,
       (extract(epoch FROM m.sent_at) * 1000)::bigint AS "timestamp", m.direction::varchar(20), m.type::varchar(50) AS message_type,
       m.text AS text_content, coalesce(m.media_url, f.url) AS media_url, coalesce(r.raw, '{}') AS raw_json, sidestep.id_time(m.id)::timestamp AS created_at
  FROM sidestep.messages m
  JOIN sidestep.threads t ON t.tenant_id = m.tenant_id AND t.chat_id = m.chat_id AND t.thread_id = m.thread_id
  JOIN sidestep.chats c ON c.tenant_id = m.tenant_id AND c.chat_id = m.chat_id
  LEFT JOIN sidestep.outbox o ON o.tenant_id = m.tenant_id AND o.chat_id = m.chat_id AND o.id = m.id
  LEFT JOIN sidestep.message_payloads r ON r.tenant_id = m.tenant_id AND r.chat_id = m.chat_id AND r.id = m.id
  LEFT JOIN sidestep.media_files f ON f.tenant_id = m.tenant_id AND f.chat_id = m.chat_id AND f.message_id = m.id AND f.ordinal = 0
 WHERE m.tenant_id = ANY ((SELECT sidestep.face_tenants())::bigint[]) AND t.tenant_id = ANY ((SELECT sidestep.face_tenants())::bigint[])
   AND c.tenant_id = ANY ((SELECT sidestep.face_tenants())::bigint[]); -- each may be the one that the read begins with
COMMENT ON VIEW face_threads.et_messages IS 'All messages, inbound and outbound.';
ALTER VIEW face_threads.et_messages ALTER COLUMN message_type SET DEFAULT 'text';
ALTER VIEW face_threads.et_messages ALTER COLUMN created_at SET DEFAULT now();

CREATE FUNCTION face_threads.insert_message() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_tenant bigint;
    v_chat bigint;
BEGIN
    PERFORM sidestep.require('et_messages', to_jsonb(NEW), 'tenant_id', 'lead_id', 'channel', 'message_id', 'timestamp', 'direction',
                             'message_type', 'raw_json', 'created_at');
    IF NEW.direction NOT IN ('inbound', 'outbound') THEN
        RAISE EXCEPTION 'a message is inbound or outbound, not "%"', NEW.direction USING ERRCODE = 'check_violation', TABLE = 'et_messages', COLUMN = 'direction';
    END IF;
    v_tenant := face_threads.meet_tenant(NEW.tenant_id, 'et_messages');
    v_chat := face_threads.meet_lead(v_tenant, NEW.lead_id, NEW.channel, CASE WHEN NEW.channel = 'whatsapp' THEN NEW.raw_json #>> '{key,remoteJid}' END);
    IF EXISTS (SELECT FROM sidestep.message_keys WHERE tenant_id = v_tenant AND external_id = NEW.message_id AND chat_id = v_chat) THEN
        RETURN NULL;
    END IF;
    NEW.id := sidestep.write_message(
        v_tenant, v_chat, NEW.message_id, NEW.created_at, to_timestamp(greatest(least(NEW.timestamp, 32503680000000), 0) / 1000.0),
        NEW.direction = 'outbound', sidestep.hear('threads', 'type', NEW.message_type), NEW.text_content, NEW.media_url,
        CASE WHEN NEW.direction = 'inbound' THEN sidestep.meet_sender(v_tenant, NEW.raw_json #>> '{key,participant}') END,
        NULL, NULL, NULL, NEW.raw_json, false);
    IF NEW.id IS NULL THEN
        RETURN NULL;
    END IF;
    SELECT thread_id, sidestep.id_time(id) INTO NEW.thread_id, NEW.created_at
      FROM sidestep.messages WHERE tenant_id = v_tenant AND chat_id = sidestep.chat_now(v_tenant, v_chat) AND id = NEW.id;
    RETURN NEW;
END $$;
COMMENT ON FUNCTION face_threads.insert_message IS 'Records, dedupes and assigns the thread; whatever thread_id says.';
CREATE TRIGGER insert_message INSTEAD OF INSERT ON face_threads.et_messages FOR EACH ROW EXECUTE FUNCTION face_threads.insert_message();

CREATE FUNCTION face_threads.delete_message() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM sidestep.remove_message(m.tenant_id, m.chat_id, m.id) FROM sidestep.messages m WHERE m.tenant_id = OLD.tenant_id AND m.id = OLD.id;
    RETURN CASE WHEN FOUND THEN OLD END;
END $$;
COMMENT ON FUNCTION face_threads.delete_message IS 'Deletes for good.';
CREATE TRIGGER delete_message INSTEAD OF DELETE ON face_threads.et_messages FOR EACH ROW EXECUTE FUNCTION face_threads.delete_message();

SELECT sidestep.wall_off();
