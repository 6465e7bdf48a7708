-- The SQL that the Whaply document prints, word for word. Each statement stands under the name that the tests call it by.

-- name: verify_tables
SELECT table_name
FROM information_schema.tables
WHERE table_schema = 'public'
  AND table_name IN ('tenants', 'sessions', 'messages', 'processed_events');

-- name: insert_tenant
INSERT INTO tenants (instance_name, evo_server_url, system_prompt, llm_provider)
VALUES (
    'demo-instance',
    'https://your-evolution-api.com',
    'You are a helpful WhatsApp assistant. Be professional and friendly.',
    'anthropic'
)
RETURNING *;

-- name: cleanup_7
SELECT cleanup_old_processed_events(7);

-- name: cleanup_30
SELECT cleanup_old_processed_events(30);

-- name: resume_2
SELECT auto_resume_paused_sessions(2);

-- name: resume_6
SELECT auto_resume_paused_sessions(6);

-- name: duplicate_events
SELECT
    tenant_id,
    message_id,
    event_type,
    COUNT(*) as count
FROM processed_events
GROUP BY tenant_id, message_id, event_type
HAVING COUNT(*) > 1;

-- name: recent_activity
SELECT
    pe.processed_at,
    t.instance_name,
    pe.message_id,
    pe.event_type,
    pe.action_taken
FROM processed_events pe
JOIN tenants t ON pe.tenant_id = t.id
ORDER BY pe.processed_at DESC
LIMIT 50;

-- name: ready_for_resume
SELECT
    s.id,
    t.instance_name,
    s.chat_id,
    s.last_human_at,
    NOW() - s.last_human_at as idle_duration
FROM sessions s
JOIN tenants t ON s.tenant_id = t.id
WHERE s.is_paused = TRUE
  AND s.last_human_at < NOW() - INTERVAL '2 hours'
ORDER BY s.last_human_at ASC;

-- name: statistics
SELECT
    t.instance_name,
    COUNT(*) FILTER (WHERE m.from_me = FALSE) as inbound_count,
    COUNT(*) FILTER (WHERE m.from_me = TRUE) as outbound_count,
    COUNT(*) as total_count
FROM messages m
JOIN tenants t ON m.tenant_id = t.id
WHERE m.created_at > NOW() - INTERVAL '24 hours'
GROUP BY t.instance_name
ORDER BY total_count DESC;

-- name: delete_old_events
DELETE FROM processed_events
WHERE processed_at < NOW() - INTERVAL '7 days';

-- name: make_archive
CREATE TABLE messages_archive (LIKE messages INCLUDING ALL);

-- name: move_to_archive
WITH deleted AS (
    DELETE FROM messages
    WHERE created_at < NOW() - INTERVAL '90 days'
    RETURNING *
)
INSERT INTO messages_archive
SELECT * FROM deleted;

-- name: sizes
SELECT
    schemaname,
    tablename,
    pg_size_pretty(pg_total_relation_size(schemaname||'.'||tablename)) AS size
FROM pg_tables
WHERE schemaname = 'public'
ORDER BY pg_total_relation_size(schemaname||'.'||tablename) DESC;

-- name: slow_query
EXPLAIN ANALYZE
SELECT * FROM sessions
WHERE is_paused = TRUE
  AND last_human_at < NOW() - INTERVAL '2 hours';
