/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Counters, gauges and histograms, and their Prometheus text.
 *
 * METRIC_TABLE is the whole list: a row is one time series, and rows of one
 * family stand together. A family that is the same thing in etcd has etcd's
 * name, so that boards and alerts keep working; what etcd has and this server
 * has not is left out rather than faked. Our own are named keta_*.
 *
 * Counting is safe on any thread and takes no lock: each thread adds to one of
 * a few copies of the cells, and reading adds them up. Gauges that mirror
 * something else are set when they are read (edge/plain.c).
 */
#ifndef KETA_METRICS_H
#define KETA_METRICS_H

#include <stdint.h>

#include "base/buf.h"

enum metric_kind {
	METRIC_COUNTER,           /* metric_add */
	METRIC_GAUGE,             /* metric_set, or metric_add with both signs; not both */
	METRIC_SECONDS_COUNTER,   /* like a counter; the unit inside is a microsecond */
	METRIC_SECONDS_GAUGE,     /* like a gauge; the same */
	METRIC_INFO,              /* always 1; its label's value is set by metric_set_label */
	METRIC_HISTOGRAM,         /* metric_observe; buckets at first * 2^i */
	METRIC_SECONDS_HISTOGRAM, /* the same; first and observations in microseconds */
};

/* name, kind, family, labels, first bucket, number of buckets, help. The
 * buckets are etcd's where the family is. The gRPC codes of keta_refused_total
 * stand in the order of their numbers: metric_refused counts on it. */
#define METRIC_TABLE(X)                                                                                    \
	X(APPLY_SECONDS, SECONDS_HISTOGRAM, "etcd_server_apply_duration_seconds", "", 100, 20,             \
	  "Time to apply one record.")                                                                     \
	X(REQUEST_SECONDS, SECONDS_HISTOGRAM, "etcd_server_request_duration_seconds", "", 1000, 14,        \
	  "Time from a complete request to its answer.")                                                   \
	X(RANGE_SECONDS, SECONDS_HISTOGRAM, "etcd_server_range_duration_seconds", "", 100, 20,             \
	  "Time to read one range.")                                                                       \
	X(COMMIT_SECONDS, SECONDS_HISTOGRAM, "etcd_disk_backend_commit_duration_seconds", "", 1000, 14,    \
	  "Time to commit a batch of records to the database.")                                            \
	X(RANGES, COUNTER, "etcd_mvcc_range_total", "", 0, 0, "Ranges read.")                              \
	X(PUTS, COUNTER, "etcd_mvcc_put_total", "", 0, 0, "Keys put.")                                     \
	X(DELETES, COUNTER, "etcd_mvcc_delete_total", "", 0, 0, "Keys deleted.")                           \
	X(TXNS, COUNTER, "etcd_mvcc_txn_total", "", 0, 0, "Transactions applied.")                         \
	X(FILE_BYTES, GAUGE, "etcd_mvcc_db_total_size_in_bytes", "", 0, 0, "Size of the database file.")   \
	X(USED_BYTES, GAUGE, "etcd_mvcc_db_total_size_in_use_in_bytes", "", 0, 0,                          \
	  "Bytes of the database file that are in use.")                                                   \
	X(REVISION, GAUGE, "etcd_debugging_mvcc_current_revision", "", 0, 0, "The newest revision.")       \
	X(COMPACT_REVISION, GAUGE, "etcd_debugging_mvcc_compact_revision", "", 0, 0,                       \
	  "The revision of the last compaction, -1 before the first.")                                     \
	X(KEYS, GAUGE, "etcd_debugging_mvcc_keys_total", "", 0, 0, "Keys that exist.")                     \
	X(COMMITTED, GAUGE, "etcd_server_proposals_committed_total", "", 0, 0,                             \
	  "Log records known to be durable.")                                                              \
	X(APPLIED, GAUGE, "etcd_server_proposals_applied_total", "", 0, 0, "Log records applied.")         \
	X(PROPOSALS_PENDING, GAUGE, "etcd_server_proposals_pending", "", 0, 0,                             \
	  "Requests that were started and are not finished.")                                              \
	X(PROPOSALS_FAILED, COUNTER, "etcd_server_proposals_failed_total", "", 0, 0,                       \
	  "Log records that could not be appended, or whose fate is unknown.")                             \
	X(HAS_LEADER, GAUGE, "etcd_server_has_leader", "", 0, 0, "1 when the cluster can take writes.")    \
	X(IS_LEADER, GAUGE, "etcd_server_is_leader", "", 0, 0, "1 when this member leads.")                \
	X(SERVER_ID, INFO, "etcd_server_id", "server_id", 0, 0, "The member's id, hexadecimal.")           \
	X(SERVER_VERSION, INFO, "etcd_server_version", "server_version", 0, 0,                             \
	  "The version of etcd whose interface this server has.")                                          \
	X(CLUSTER_VERSION, INFO, "etcd_cluster_version", "cluster_version", 0, 0,                          \
	  "The version of etcd whose features the cluster has.")                                           \
	X(QUOTA_BYTES, GAUGE, "etcd_server_quota_backend_bytes", "", 0, 0, "The storage quota.")           \
	X(SLOW_APPLIES, COUNTER, "etcd_server_slow_apply_total", "", 0, 0,                                 \
	  "Requests that took longer than the limit for a warning.")                                       \
	X(HEALTH_SUCCESS, COUNTER, "etcd_server_health_success", "", 0, 0, "/health answered: healthy.")   \
	X(HEALTH_FAILURES, COUNTER, "etcd_server_health_failures", "", 0, 0,                               \
	  "/health answered: not healthy.")                                                                \
	X(CLIENT_REQUESTS, COUNTER, "etcd_server_client_requests_total",                                   \
	  "type=\"unary\",client_api_version=\"unknown\"", 0, 0, "Calls by kind and client version.")      \
	X(PROCESS_CPU, SECONDS_COUNTER, "process_cpu_seconds_total", "", 0, 0,                             \
	  "Processor time spent, user and system.")                                                        \
	X(PROCESS_RSS, GAUGE, "process_resident_memory_bytes", "", 0, 0, "Resident memory.")               \
	X(PROCESS_VIRTUAL, GAUGE, "process_virtual_memory_bytes", "", 0, 0, "Virtual memory.")             \
	X(PROCESS_FDS, GAUGE, "process_open_fds", "", 0, 0, "Open file descriptors.")                      \
	X(PROCESS_MAX_FDS, GAUGE, "process_max_fds", "", 0, 0, "The limit of open file descriptors.")      \
	X(PROCESS_START, SECONDS_GAUGE, "process_start_time_seconds", "", 0, 0,                            \
	  "When the process started, in seconds since 1970.")                                              \
	X(LEASES_GRANTED, COUNTER, "etcd_debugging_lease_granted_total", "", 0, 0, "Leases granted.")      \
	X(LEASES_REVOKED, COUNTER, "etcd_debugging_lease_revoked_total", "", 0, 0,                         \
	  "Leases that ended, revoked or expired.")                                                        \
	X(LEASES_RENEWED, COUNTER, "etcd_debugging_lease_renewed_total", "", 0, 0, "Leases renewed.")      \
	X(WATCHERS, GAUGE, "etcd_debugging_mvcc_watcher_total", "", 0, 0, "Watches that are open.")        \
	X(SLOW_WATCHERS, GAUGE, "etcd_debugging_mvcc_slow_watcher_total", "", 0, 0,                        \
	  "Watches that began in the past or fell behind.")                                                \
	X(WATCH_STREAMS, GAUGE, "etcd_debugging_mvcc_watch_stream_total", "", 0, 0,                        \
	  "Streams that watches are opened on.")                                                           \
	X(WATCH_EVENTS, COUNTER, "etcd_debugging_mvcc_events_total", "", 0, 0, "Events sent to watches.")  \
	X(CONNECTIONS, GAUGE, "keta_http_connections", "", 0, 0, "Client connections that are open.")      \
	X(CONNECTIONS_REFUSED, COUNTER, "keta_http_connections_refused_total", "", 0, 0,                   \
	  "Connections closed unserved: no first byte in time, HTTP/2 without its module, no memory.")     \
	X(CONNECTIONS_EXPIRED, COUNTER, "keta_http_connections_expired_total", "", 0, 0,                   \
	  "Connections closed because a request's head or body, or the next request, did not come in "     \
	  "time.")                                                                                         \
	X(ACCEPT_PAUSES, COUNTER, "keta_http_accept_pauses_total", "", 0, 0,                               \
	  "Times that accepting stopped at the connection or descriptor limit.")                           \
	X(SUSPENDED, GAUGE, "keta_http_suspended_requests", "", 0, 0,                                      \
	  "HTTP requests that wait for their answer without a thread.")                                    \
	X(ABANDONED, COUNTER, "keta_http_abandoned_requests_total", "", 0, 0,                              \
	  "Requests whose client went away before the answer.")                                            \
	X(HTTP_REQUESTS, COUNTER, "keta_http_requests_total", "", 0, 0, "HTTP requests answered.")         \
	X(HTTP_MALFORMED, COUNTER, "keta_http_malformed_requests_total", "", 0, 0,                         \
	  "HTTP requests refused for their head, before any method was looked up.")                        \
	X(HTTP_TOO_LARGE, COUNTER, "keta_http_too_large_requests_total", "", 0, 0,                         \
	  "HTTP requests whose body was dropped for its size.")                                            \
	X(BATCH_RECORDS, HISTOGRAM, "keta_apply_batch_records", "", 1, 13,                                 \
	  "Log records applied in one database transaction.")                                              \
	X(LOG_APPLIED_OFFSET, GAUGE, "keta_log_applied_offset", "", 0, 0,                                  \
	  "Offset of the newest log record that is applied.")                                              \
	X(LOG_LAG, GAUGE, "keta_log_lag_records", "", 0, 0,                                                \
	  "Records of the shared log that are known of and not yet applied.")                              \
	X(STATE_HASH, INFO, "keta_state_hash", "hex", 0, 0,                                                \
	  "Hash over the state as of keta_log_applied_offset, hexadecimal: nodes at the same offset have " \
	  "the same.")                                                                                     \
	X(TERM, GAUGE, "keta_term", "", 0, 0, "The term of the leader, as of the newest record applied.")  \
	X(CHECKPOINT_OFFSET, GAUGE, "keta_checkpoint_offset", "", 0, 0,                                    \
	  "Offset up to which the newest checkpoint holds the state.")                                     \
	X(CHECKPOINT_AGE, SECONDS_GAUGE, "keta_checkpoint_age_seconds", "", 0, 0,                          \
	  "Time since the newest checkpoint.")                                                             \
	X(BARRIERS, COUNTER, "keta_barriers_total", "", 0, 0,                                              \
	  "Times that the log was asked how far linearizable reads have to wait.")                         \
	X(BARRIER_READS, HISTOGRAM, "keta_barrier_reads", "", 1, 13,                                       \
	  "Linearizable reads that shared one such question.")                                             \
	X(BOOTSTRAP_DONE, GAUGE, "keta_bootstrap_done", "", 0, 0,                                          \
	  "Of what a starting node has to get from Kafka, what it has; 0 when it does nothing of the "     \
	  "kind.")                                                                                         \
	X(BOOTSTRAP_TOTAL, GAUGE, "keta_bootstrap_total", "", 0, 0,                                        \
	  "What a starting node has to get from Kafka; 0 when it does nothing of the kind.")               \
	X(WAL_BYTES, GAUGE, "keta_wal_bytes", "", 0, 0, "Size of the database's write-ahead log.")         \
	X(LOGICAL_BYTES, GAUGE, "keta_logical_bytes", "", 0, 0, "Bytes that the quota counts.")            \
	X(LOG_END, GAUGE, "keta_log_end_offset", "", 0, 0,                                                 \
	  "Offset of the newest record in the log in Kafka.")                                              \
	X(LOG_APPEND_SECONDS, SECONDS_HISTOGRAM, "keta_log_append_seconds", "", 100, 20,                   \
	  "Time from appending a record to Kafka's confirmation.")                                         \
	X(KAFKA_UP, GAUGE, "keta_kafka_up", "", 0, 0,                                                      \
	  "1 when a broker of Kafka's has answered within the last seconds.")                              \
	X(KAFKA_ERRORS, COUNTER, "keta_kafka_errors_total", "", 0, 0,                                      \
	  "Errors of Kafka's clients, connections included.")                                              \
	X(KAFKA_PRODUCER_RESTARTS, COUNTER, "keta_kafka_producer_restarts_total", "", 0, 0,                \
	  "Times that a fatal error made the log's producer start anew.")                                  \
	X(LEASES, GAUGE, "keta_leases", "", 0, 0, "Leases that exist.")                                    \
	X(RENEWAL_IDS, HISTOGRAM, "keta_lease_renewal_batch_leases", "", 1, 13,                            \
	  "Lease renewals written in one log record.")                                                     \
	X(REFUSED_CANCELED, COUNTER, "keta_refused_total", "code=\"CANCELED\"", 0, 0,                      \
	  "Calls that ended with an error, by gRPC code.")                                                 \
	X(REFUSED_UNKNOWN, COUNTER, "keta_refused_total", "code=\"UNKNOWN\"", 0, 0, "")                    \
	X(REFUSED_INVALID_ARGUMENT, COUNTER, "keta_refused_total", "code=\"INVALID_ARGUMENT\"", 0, 0, "")  \
	X(REFUSED_DEADLINE_EXCEEDED, COUNTER, "keta_refused_total", "code=\"DEADLINE_EXCEEDED\"", 0, 0,    \
	  "")                                                                                              \
	X(REFUSED_NOT_FOUND, COUNTER, "keta_refused_total", "code=\"NOT_FOUND\"", 0, 0, "")                \
	X(REFUSED_ALREADY_EXISTS, COUNTER, "keta_refused_total", "code=\"ALREADY_EXISTS\"", 0, 0, "")      \
	X(REFUSED_PERMISSION_DENIED, COUNTER, "keta_refused_total", "code=\"PERMISSION_DENIED\"", 0, 0,    \
	  "")                                                                                              \
	X(REFUSED_RESOURCE_EXHAUSTED, COUNTER, "keta_refused_total", "code=\"RESOURCE_EXHAUSTED\"", 0, 0,  \
	  "")                                                                                              \
	X(REFUSED_FAILED_PRECONDITION, COUNTER, "keta_refused_total", "code=\"FAILED_PRECONDITION\"", 0,   \
	  0, "")                                                                                           \
	X(REFUSED_ABORTED, COUNTER, "keta_refused_total", "code=\"ABORTED\"", 0, 0, "")                    \
	X(REFUSED_OUT_OF_RANGE, COUNTER, "keta_refused_total", "code=\"OUT_OF_RANGE\"", 0, 0, "")          \
	X(REFUSED_UNIMPLEMENTED, COUNTER, "keta_refused_total", "code=\"UNIMPLEMENTED\"", 0, 0, "")        \
	X(REFUSED_INTERNAL, COUNTER, "keta_refused_total", "code=\"INTERNAL\"", 0, 0, "")                  \
	X(REFUSED_UNAVAILABLE, COUNTER, "keta_refused_total", "code=\"UNAVAILABLE\"", 0, 0, "")            \
	X(REFUSED_DATA_LOSS, COUNTER, "keta_refused_total", "code=\"DATA_LOSS\"", 0, 0, "")                \
	X(REFUSED_UNAUTHENTICATED, COUNTER, "keta_refused_total", "code=\"UNAUTHENTICATED\"", 0, 0, "")

enum metric {
#define X(name, kind, family, labels, first, buckets, help) METRIC_##name,
	METRIC_TABLE(X)
#undef X
		METRIC_COUNT
};

/* Adds to a counter or gauge. */
void metric_add(enum metric metric, int64_t value);

/* Replaces a gauge's value. */
void metric_set(enum metric metric, int64_t value);

/* Sets the label of an info series; the text is copied and cut at 63 bytes. */
void metric_set_label(enum metric metric, const char *text);

/* Adds one observation to a histogram: microseconds, or the plain number. */
void metric_observe(enum metric metric, int64_t value);

/* The series of keta_refused_total for a gRPC code from 1 to 16. */
static inline enum metric metric_refused(unsigned grpc_code)
{
	return (enum metric)(METRIC_REFUSED_CANCELED + grpc_code - 1);
}

/* What a counter or gauge holds; of a histogram, the number of observations. */
int64_t metric_value(enum metric metric);

/* Appends everything in Prometheus' text format. */
void metrics_write(struct buf *buf);

/* Appends the list of families as doc/metrics.md shows it. */
void metrics_document(struct buf *buf);

#endif
