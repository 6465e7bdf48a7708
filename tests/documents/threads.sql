-- The SQL that the document of et_threads and et_messages prints, word for word.

-- name: pasted_threads
CREATE TABLE et_threads (
    id SERIAL PRIMARY KEY,
    tenant_id INTEGER NOT NULL,
    lead_id INTEGER NOT NULL,
    channel VARCHAR(50) NOT NULL,
    status VARCHAR(20) NOT NULL DEFAULT 'active',
    created_at TIMESTAMP NOT NULL DEFAULT NOW()
);

-- name: pasted_threads_lead
CREATE INDEX idx_threads_lead ON et_threads(lead_id);

-- name: pasted_threads_active
CREATE INDEX idx_threads_active ON et_threads(lead_id, channel, status);

-- name: pasted_messages
CREATE TABLE et_messages (
    id SERIAL PRIMARY KEY,
    tenant_id INTEGER NOT NULL,
    lead_id INTEGER NOT NULL,
    thread_id INTEGER,
    channel VARCHAR(50) NOT NULL,
    message_id VARCHAR(255) NOT NULL,
    timestamp BIGINT NOT NULL,
    direction VARCHAR(20) NOT NULL,
    message_type VARCHAR(50) NOT NULL DEFAULT 'text',
    text_content TEXT,
    media_url TEXT,
    raw_json JSONB NOT NULL,
    created_at TIMESTAMP NOT NULL DEFAULT NOW(),
    
    UNIQUE(channel, lead_id, message_id)
);

-- name: pasted_messages_tenant
CREATE INDEX idx_msg_tenant ON et_messages(tenant_id);

-- name: pasted_messages_lead
CREATE INDEX idx_msg_lead ON et_messages(lead_id);

-- name: pasted_messages_thread
CREATE INDEX idx_msg_thread ON et_messages(thread_id);

-- name: pasted_messages_conversation
CREATE INDEX idx_msg_conversation ON et_messages(thread_id, timestamp);

-- name: pasted_function
CREATE OR REPLACE FUNCTION assign_thread()
RETURNS TRIGGER AS $$
DECLARE
    v_thread_id INTEGER;
BEGIN
    -- Find active thread for this lead + channel
    SELECT id INTO v_thread_id
    FROM et_threads
    WHERE lead_id = NEW.lead_id 
      AND channel = NEW.channel
      AND status = 'active'
    LIMIT 1;
    
    -- If no active thread, create one
    IF v_thread_id IS NULL THEN
        INSERT INTO et_threads (tenant_id, lead_id, channel)
        VALUES (NEW.tenant_id, NEW.lead_id, NEW.channel)
        RETURNING id INTO v_thread_id;
    END IF;
    
    -- Assign thread_id to message
    NEW.thread_id := v_thread_id;
    
    RETURN NEW;
END;
$$ LANGUAGE plpgsql;

-- name: pasted_trigger
CREATE TRIGGER tr_assign_thread
BEFORE INSERT ON et_messages
FOR EACH ROW
EXECUTE FUNCTION assign_thread();

-- name: insert_message
INSERT INTO et_messages (
    tenant_id,
    lead_id,
    channel,
    message_id,
    timestamp,
    direction,
    message_type,
    text_content,
    raw_json
) VALUES (
    101,                -- tenant_id
    5001,               -- lead_id
    'whatsapp',         -- channel
    '3EB0ABC123',       -- message_id
    1708186800000,      -- timestamp
    'inbound',          -- direction
    'text',             -- message_type
    'Hello',            -- text_content
    '{"key":{"id":"3EB0ABC123"},"message":{"conversation":"Hello"}}'::jsonb
);

-- name: thread_history
SELECT *
FROM et_messages
WHERE thread_id = 123
ORDER BY timestamp ASC;

-- name: lead_history
SELECT m.*
FROM et_messages m
JOIN et_threads t ON m.thread_id = t.id
WHERE m.lead_id = 5001
  AND t.status = 'active'
ORDER BY m.timestamp ASC;

-- name: archive
UPDATE et_threads
SET status = 'archived'
WHERE id = 123;

-- name: check_duplicate
SELECT id FROM et_messages
WHERE channel = 'whatsapp'
  AND lead_id = 5001
  AND message_id = '3EB0ABC123';
