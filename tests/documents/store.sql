-- The SQL that the message storage document prints, word for word.

-- name: pasted_partition
CREATE TABLE messages_2025_01 PARTITION OF messages
FOR VALUES FROM ('2025-01-01') TO ('2025-02-01');

-- name: size
SELECT pg_size_pretty(pg_total_relation_size('messages'));

-- name: index_usage
SELECT schemaname, tablename, indexname, idx_scan, idx_tup_read, idx_tup_fetch
FROM pg_stat_user_indexes
WHERE tablename = 'messages'
ORDER BY idx_scan DESC;

-- name: slow_queries
SELECT query, mean_exec_time, calls
FROM pg_stat_statements
WHERE query LIKE '%messages%'
ORDER BY mean_exec_time DESC
LIMIT 10;
