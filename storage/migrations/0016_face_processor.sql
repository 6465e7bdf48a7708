-- migrate:up
-- The face of the WhatsApp Processor's database: chats, messages, chat_tracking_state, processing_state, media_files, for one
-- tenant. The document names key fields only; the others are chosen here.

INSERT INTO sidestep.vocabulary (face, idea, word, means, is_said, is_heard) VALUES
    ('processor', 'type', 'photo', 'image', true, true),
    ('processor', 'type', 'image', 'image', false, true),
    ('processor', 'media_status', 'uploaded', 'stored', true, true),
    ('processor', 'media_status', 'completed', 'stored', false, true);
INSERT INTO sidestep.face_tables VALUES
    ('processor', 'chats', '{chats,chat_aliases}'),
    ('processor', 'messages', '{messages,message_keys,message_payloads}'),
    ('processor', 'chat_tracking_state', '{chat_state}'),
    ('processor', 'processing_state', '{processing_state}'),
    ('processor', 'media_files', '{media,blobs}');

CREATE SCHEMA face_processor;
COMMENT ON SCHEMA face_processor IS 'The store as the WhatsApp Processor''s document names it: chats, messages, chat_tracking_state, processing_state, media_files. See docs/faces.md.';

CREATE FUNCTION face_processor.pg_total_relation_size(text) RETURNS bigint LANGUAGE sql STABLE
RETURN sidestep.relation_size('processor', $1);
COMMENT ON FUNCTION face_processor.pg_total_relation_size IS 'As the catalog''s; of a view here, the size of what is behind it.';

CREATE FUNCTION face_processor.known_chat(p_tenant bigint, p_jid text, p_table text) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_chat bigint := sidestep.find_chat(p_tenant, 'whatsapp', p_jid);
BEGIN
    IF v_chat IS NULL THEN
        RAISE EXCEPTION 'insert or update on table "%" violates its foreign key to chats', p_table
            USING ERRCODE = 'foreign_key_violation', TABLE = p_table, COLUMN = 'jid', DETAIL = format('Key (jid)=(%s) is not present in table "chats".', p_jid);
    END IF;
    RETURN v_chat;
END $$;
COMMENT ON FUNCTION face_processor.known_chat IS 'The chat that a row refers to; it must be there.';

-- chats --------------------------------------------------------------------------------------------------

CREATE VIEW face_processor.chats WITH (security_invoker = true) AS
SELECT coalesce(p.jid, c.jid) AS jid, coalesce(c.name, p.push_name) AS name, c.is_group, c.metadata, c.created_at, c.updated_at
  FROM sidestep.chats c
  LEFT JOIN sidestep.contacts p ON p.tenant_id = c.tenant_id AND p.contact_id = c.contact_id
 WHERE c.tenant_id = (SELECT sidestep.face_tenant()) AND c.channel = 'whatsapp' AND c.merged_into IS NULL;
COMMENT ON VIEW face_processor.chats IS 'WhatsApp chats and groups.';
ALTER VIEW face_processor.chats ALTER COLUMN metadata SET DEFAULT '{}';
ALTER VIEW face_processor.chats ALTER COLUMN created_at SET DEFAULT now();
ALTER VIEW face_processor.chats ALTER COLUMN updated_at SET DEFAULT now();

CREATE FUNCTION face_processor.write_chat() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_tenant bigint := sidestep.meet_tenant();
    v_chat bigint;
BEGIN
    PERFORM sidestep.require('chats', to_jsonb(NEW), 'jid');
    IF TG_OP = 'INSERT' THEN
        NEW.is_group := coalesce(NEW.is_group, NEW.jid LIKE '%@g.us');
        IF sidestep.find_chat(v_tenant, 'whatsapp', NEW.jid) IS NOT NULL THEN
            RAISE EXCEPTION 'duplicate key value violates unique constraint "chats_pkey"'
                USING ERRCODE = 'unique_violation', TABLE = 'chats', DETAIL = 'This chat is here already; UPDATE it.';
        END IF;
        v_chat := sidestep.meet_chat(v_tenant, 'whatsapp', NEW.jid, NEW.is_group, NEW.name);
    ELSE
        PERFORM sidestep.refuse_change('chats', to_jsonb(OLD), to_jsonb(NEW), 'jid', 'is_group', 'created_at');
        v_chat := sidestep.find_chat(v_tenant, 'whatsapp', OLD.jid);
    END IF;
    NEW.updated_at := now();
    UPDATE sidestep.chats SET name = CASE WHEN is_group THEN NEW.name END, metadata = coalesce(NEW.metadata, '{}'), updated_at = now()
     WHERE tenant_id = v_tenant AND chat_id = v_chat;
    UPDATE sidestep.contacts p SET push_name = NEW.name, updated_at = now() FROM sidestep.chats c
     WHERE c.tenant_id = v_tenant AND c.chat_id = v_chat AND NOT c.is_group AND p.tenant_id = v_tenant AND p.contact_id = c.contact_id
       AND p.push_name IS DISTINCT FROM NEW.name;
    RETURN NEW;
END $$;
COMMENT ON FUNCTION face_processor.write_chat IS 'A group has its name itself, another chat that of whom it is with.';
CREATE TRIGGER write_chat INSTEAD OF INSERT OR UPDATE ON face_processor.chats FOR EACH ROW EXECUTE FUNCTION face_processor.write_chat();

CREATE FUNCTION face_processor.delete_chat() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM sidestep.remove_chat(t, sidestep.find_chat(t, 'whatsapp', OLD.jid)) FROM sidestep.face_tenant() t;
    RETURN OLD;
END $$;
COMMENT ON FUNCTION face_processor.delete_chat IS 'With it goes what refers to it.';
CREATE TRIGGER delete_chat INSTEAD OF DELETE ON face_processor.chats FOR EACH ROW EXECUTE FUNCTION face_processor.delete_chat();

-- messages -----------------------------------------------------------------------------------------------

CREATE VIEW face_processor.messages WITH (security_invoker = true) AS
SELECT m.id, coalesce(m.external_id, o.external_id, 'sidestep:' || m.id) AS message_id, coalesce(p.jid, c.jid) AS jid,
       CASE WHEN m.direction = 'outbound' THEN coalesce(a.jid, a.lid) ELSE coalesce(s.jid, s.lid) END AS sender, s.push_name AS sender_name,
       m.text AS content, CASE WHEN m.type IN ('image', 'video', 'audio', 'document', 'sticker') THEN coalesce(v.word, m.type) END AS media_type,
       coalesce(m.media_url, f.url) AS media_url, extract(epoch FROM m.sent_at)::bigint AS "timestamp",
       m.direction = 'outbound' AS is_from_me, coalesce(m.metadata, '{}') AS metadata, sidestep.id_time(m.id) AS created_at
  FROM sidestep.messages m
  JOIN sidestep.chats c ON c.tenant_id = m.tenant_id AND c.chat_id = m.chat_id
  JOIN sidestep.accounts a ON a.tenant_id = c.tenant_id AND a.account_id = c.account_id
  LEFT JOIN sidestep.contacts p ON p.tenant_id = c.tenant_id AND p.contact_id = c.contact_id
  LEFT JOIN sidestep.contacts s ON s.tenant_id = m.tenant_id AND s.contact_id = m.sender_id
  LEFT JOIN sidestep.outbox o ON o.tenant_id = m.tenant_id AND o.chat_id = m.chat_id AND o.id = m.id
  LEFT JOIN sidestep.media_files f ON f.tenant_id = m.tenant_id AND f.chat_id = m.chat_id AND f.message_id = m.id AND f.ordinal = 0
  LEFT JOIN sidestep.vocabulary v ON v.face = 'processor' AND v.idea = 'type' AND v.means = m.type AND v.is_said
 WHERE m.tenant_id = (SELECT sidestep.face_tenant()) AND c.channel = 'whatsapp';
COMMENT ON VIEW face_processor.messages IS 'All WhatsApp messages.';
ALTER VIEW face_processor.messages ALTER COLUMN is_from_me SET DEFAULT false;
ALTER VIEW face_processor.messages ALTER COLUMN metadata SET DEFAULT '{}';
ALTER VIEW face_processor.messages ALTER COLUMN created_at SET DEFAULT now();

CREATE FUNCTION face_processor.insert_message() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_tenant bigint := sidestep.meet_tenant();
    v_type text := sidestep.hear('processor', 'type', coalesce(NEW.media_type, 'text'));
BEGIN
    PERFORM sidestep.require('messages', to_jsonb(NEW), 'message_id', 'jid', 'timestamp', 'is_from_me');
    NEW.id := sidestep.write_message(
        v_tenant, face_processor.known_chat(v_tenant, NEW.jid, 'messages'), NEW.message_id, NEW.created_at,
        to_timestamp(greatest(least(NEW.timestamp, 32503680000), 0)), NEW.is_from_me, v_type, NEW.content, NEW.media_url,
        CASE WHEN NEW.jid LIKE '%@g.us' AND NOT NEW.is_from_me THEN sidestep.meet_sender(v_tenant, NEW.sender) END,
        NULL, NULL, NEW.metadata, NULL, true);
    RETURN CASE WHEN NEW.id IS NOT NULL THEN NEW END;
END $$;
COMMENT ON FUNCTION face_processor.insert_message IS 'A message that is here already changes nothing.';
CREATE TRIGGER insert_message INSTEAD OF INSERT ON face_processor.messages FOR EACH ROW EXECUTE FUNCTION face_processor.insert_message();

CREATE FUNCTION face_processor.delete_message() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM sidestep.remove_message(m.tenant_id, m.chat_id, m.id)
       FROM sidestep.messages m WHERE m.tenant_id = sidestep.face_tenant() AND m.chat_id = sidestep.find_chat(m.tenant_id, 'whatsapp', OLD.jid) AND m.id = OLD.id;
    RETURN CASE WHEN FOUND THEN OLD END;
END $$;
COMMENT ON FUNCTION face_processor.delete_message IS 'Deletes for good.';
CREATE TRIGGER delete_message INSTEAD OF DELETE ON face_processor.messages FOR EACH ROW EXECUTE FUNCTION face_processor.delete_message();

-- chat_tracking_state ------------------------------------------------------------------------------------

CREATE VIEW face_processor.chat_tracking_state WITH (security_invoker = true) AS
SELECT coalesce(p.jid, c.jid) AS jid, s.is_excluded, l.message_id AS last_processed_message_id, s.resume_mode, c.created_at,
       greatest(c.updated_at, s.last_message_at) AS updated_at
  FROM sidestep.chat_state s
  JOIN sidestep.chats c ON c.tenant_id = s.tenant_id AND c.chat_id = s.chat_id
  LEFT JOIN sidestep.contacts p ON p.tenant_id = c.tenant_id AND p.contact_id = c.contact_id
  LEFT JOIN LATERAL (
       SELECT coalesce(m.external_id, o.external_id, 'sidestep:' || m.id) AS message_id
         FROM sidestep.decisions d
         JOIN sidestep.messages m ON m.tenant_id = d.tenant_id AND m.chat_id = d.chat_id AND m.id = d.message_id
         LEFT JOIN sidestep.outbox o ON o.tenant_id = d.tenant_id AND o.chat_id = d.chat_id AND o.id = d.message_id
        WHERE d.tenant_id = s.tenant_id AND d.chat_id = s.chat_id AND d.action_taken <> 'imported'
        ORDER BY d.message_id DESC LIMIT 1) l ON true
 WHERE s.tenant_id = (SELECT sidestep.face_tenant()) AND c.channel = 'whatsapp';
COMMENT ON VIEW face_processor.chat_tracking_state IS 'Exclusion list and tracking state: one row a chat.';
ALTER VIEW face_processor.chat_tracking_state ALTER COLUMN is_excluded SET DEFAULT false;
ALTER VIEW face_processor.chat_tracking_state ALTER COLUMN resume_mode SET DEFAULT 'from_last';

CREATE FUNCTION face_processor.write_tracking() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_tenant bigint := sidestep.meet_tenant();
    v_row face_processor.chat_tracking_state;
    v_chat bigint;
    v_was_excluded boolean;
BEGIN
    -- Every chat has its row: inserting one says what it is to be, deleting one that it is as at first.
    IF TG_OP = 'DELETE' THEN
        v_row := OLD;
        v_row.is_excluded := false;
        v_row.resume_mode := 'from_last';
    ELSE
        PERFORM sidestep.require('chat_tracking_state', to_jsonb(NEW), 'jid', 'is_excluded', 'resume_mode');
        v_row := NEW;
    END IF;
    IF TG_OP = 'UPDATE' THEN
        PERFORM sidestep.refuse_change('chat_tracking_state', to_jsonb(OLD), to_jsonb(NEW), 'jid', 'last_processed_message_id');
    END IF;
    v_chat := face_processor.known_chat(v_tenant, v_row.jid, 'chat_tracking_state');
    UPDATE sidestep.chat_state SET resume_mode = v_row.resume_mode WHERE tenant_id = v_tenant AND chat_id = v_chat;
    SELECT is_excluded INTO v_was_excluded FROM sidestep.chat_state WHERE tenant_id = v_tenant AND chat_id = v_chat;
    IF v_row.is_excluded <> v_was_excluded THEN
        PERFORM sidestep.exclude(v_tenant, v_chat, v_row.is_excluded);
    END IF;
    RETURN v_row;
END $$;
COMMENT ON FUNCTION face_processor.write_tracking IS 'An exclusion written here is the daemon''s own: it raises the epoch.';
CREATE TRIGGER write_tracking INSTEAD OF INSERT OR UPDATE OR DELETE ON face_processor.chat_tracking_state
    FOR EACH ROW EXECUTE FUNCTION face_processor.write_tracking();

-- processing_state ---------------------------------------------------------------------------------------

CREATE VIEW face_processor.processing_state WITH (security_invoker = true) AS
SELECT 1 AS id, coalesce(g.is_paused, false) AS is_paused, g.paused_at, g.resumed_at
  FROM sidestep.tenants t LEFT JOIN sidestep.processing_state g ON g.tenant_id = t.tenant_id
 WHERE t.tenant_id = (SELECT sidestep.face_tenant());
COMMENT ON VIEW face_processor.processing_state IS 'The global pause: always one row.';
ALTER VIEW face_processor.processing_state ALTER COLUMN id SET DEFAULT 1;
ALTER VIEW face_processor.processing_state ALTER COLUMN is_paused SET DEFAULT false;

CREATE FUNCTION face_processor.write_processing() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_tenant bigint := sidestep.meet_tenant();
BEGIN
    PERFORM sidestep.require('processing_state', to_jsonb(NEW), 'id', 'is_paused');
    IF NEW.id <> 1 THEN
        RAISE EXCEPTION 'processing_state has one row, whose id is 1' USING ERRCODE = 'check_violation', TABLE = 'processing_state', COLUMN = 'id';
    END IF;
    IF NEW.is_paused IS DISTINCT FROM (SELECT is_paused FROM face_processor.processing_state) THEN
        PERFORM sidestep.set_global_pause(v_tenant, NEW.is_paused, coalesce(CASE WHEN NEW.is_paused THEN
            CASE WHEN TG_OP = 'UPDATE' AND NEW.paused_at IS NOT DISTINCT FROM OLD.paused_at THEN now() ELSE NEW.paused_at END ELSE
            CASE WHEN TG_OP = 'UPDATE' AND NEW.resumed_at IS NOT DISTINCT FROM OLD.resumed_at THEN now() ELSE NEW.resumed_at END END, now()));
    END IF;
    SELECT * INTO NEW FROM face_processor.processing_state;
    RETURN NEW;
END $$;
COMMENT ON FUNCTION face_processor.write_processing IS 'The daemon''s own global pause. The row is always there: inserting it says what it is to be.';
CREATE TRIGGER write_processing INSTEAD OF INSERT OR UPDATE ON face_processor.processing_state
    FOR EACH ROW EXECUTE FUNCTION face_processor.write_processing();

-- media_files --------------------------------------------------------------------------------------------

CREATE VIEW face_processor.media_files WITH (security_invoker = true) AS
SELECT f.media_id::integer AS id, coalesce(m.external_id, o.external_id) AS message_id, coalesce(p.jid, c.jid) AS jid, coalesce(v.word, f.type) AS media_type,
       f.url AS minio_url, f.moved_url AS deeplens_url, f.mime AS mime_type, f.name AS file_name, f.size_bytes AS file_size,
       coalesce(w.word, f.status) AS upload_status, f.metadata, f.created_at, greatest(f.created_at, f.stored_at) AS updated_at
  FROM sidestep.media_files f
  JOIN sidestep.chats c ON c.tenant_id = f.tenant_id AND c.chat_id = f.chat_id
  LEFT JOIN sidestep.contacts p ON p.tenant_id = c.tenant_id AND p.contact_id = c.contact_id
  LEFT JOIN sidestep.messages m ON m.tenant_id = f.tenant_id AND m.chat_id = f.chat_id AND m.id = f.message_id
  LEFT JOIN sidestep.outbox o ON o.tenant_id = f.tenant_id AND o.chat_id = f.chat_id AND o.id = f.message_id
  LEFT JOIN sidestep.vocabulary v ON v.face = 'processor' AND v.idea = 'type' AND v.means = f.type AND v.is_said
  LEFT JOIN sidestep.vocabulary w ON w.face = 'processor' AND w.idea = 'media_status' AND w.means = f.status AND w.is_said
 WHERE f.tenant_id = (SELECT sidestep.face_tenant()) AND c.channel = 'whatsapp';
COMMENT ON VIEW face_processor.media_files IS 'All media files, where they lie and where they have moved.';
ALTER VIEW face_processor.media_files ALTER COLUMN metadata SET DEFAULT '{}';
ALTER VIEW face_processor.media_files ALTER COLUMN created_at SET DEFAULT now();

CREATE FUNCTION face_processor.write_media() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_tenant bigint := sidestep.meet_tenant();
    v_chat bigint;
    v_message bigint;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        -- Where our own file lies is our own to say; where others keep or move one, theirs.
        PERFORM sidestep.refuse_change('media_files', to_jsonb(OLD), to_jsonb(NEW), 'id', 'message_id', 'jid', 'created_at');
        UPDATE sidestep.media
           SET type = sidestep.hear('processor', 'type', NEW.media_type), url = CASE WHEN NEW.minio_url IS DISTINCT FROM OLD.minio_url THEN NEW.minio_url ELSE url END,
               moved_url = CASE WHEN NEW.deeplens_url IS DISTINCT FROM OLD.deeplens_url THEN NEW.deeplens_url ELSE moved_url END,
               mime = NEW.mime_type, name = NEW.file_name, size_bytes = NEW.file_size,
               status = sidestep.hear('processor', 'media_status', NEW.upload_status), metadata = coalesce(NEW.metadata, '{}')
         WHERE tenant_id = v_tenant AND media_id = OLD.id;
        RETURN NEW;
    END IF;
    PERFORM sidestep.require('media_files', to_jsonb(NEW), 'jid', 'media_type');
    v_chat := face_processor.known_chat(v_tenant, NEW.jid, 'media_files');
    IF NEW.message_id IS NOT NULL THEN
        SELECT k.id INTO v_message FROM sidestep.message_keys k
         WHERE k.tenant_id = v_tenant AND k.external_id = NEW.message_id AND k.chat_id = v_chat ORDER BY k.id LIMIT 1;
        IF v_message IS NULL THEN
            RAISE EXCEPTION 'insert or update on table "media_files" violates its foreign key to messages'
                USING ERRCODE = 'foreign_key_violation', TABLE = 'media_files', COLUMN = 'message_id';
        END IF;
    END IF;
    NEW.upload_status := coalesce(NEW.upload_status, CASE WHEN coalesce(NEW.minio_url, NEW.deeplens_url) IS NULL THEN 'pending' ELSE 'uploaded' END);
    INSERT INTO sidestep.media (tenant_id, account_id, chat_id, message_id, ordinal, type, status, mime, size_bytes, name, url, moved_url, metadata, created_at)
    SELECT v_tenant, c.account_id, v_chat, v_message,
           (SELECT coalesce(max(m.ordinal) + 1, 0) FROM sidestep.media m WHERE m.tenant_id = v_tenant AND m.chat_id = v_chat AND m.message_id = v_message),
           sidestep.hear('processor', 'type', NEW.media_type), sidestep.hear('processor', 'media_status', NEW.upload_status),
           NEW.mime_type, NEW.file_size, NEW.file_name, coalesce(NEW.minio_url, NEW.deeplens_url), NEW.deeplens_url, coalesce(NEW.metadata, '{}'), NEW.created_at
      FROM sidestep.chats c WHERE c.tenant_id = v_tenant AND c.chat_id = v_chat
    RETURNING media_id, url INTO NEW.id, NEW.minio_url;
    RETURN NEW;
END $$;
COMMENT ON FUNCTION face_processor.write_media IS 'A record of a file that others keep: nothing is fetched or moved.';
CREATE TRIGGER write_media INSTEAD OF INSERT OR UPDATE ON face_processor.media_files FOR EACH ROW EXECUTE FUNCTION face_processor.write_media();

CREATE FUNCTION face_processor.delete_media() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM sidestep.media WHERE tenant_id = sidestep.face_tenant() AND media_id = OLD.id;
    RETURN OLD;
END $$;
COMMENT ON FUNCTION face_processor.delete_media IS 'Forgets a medium; our own file goes if nothing else refers to it.';
CREATE TRIGGER delete_media INSTEAD OF DELETE ON face_processor.media_files FOR EACH ROW EXECUTE FUNCTION face_processor.delete_media();

SELECT sidestep.wall_off();
