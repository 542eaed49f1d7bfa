/* SPDX-License-Identifier: Apache-2.0 */
/* The etcd whose API this server has. Clients decide by these what they may use. */
#ifndef KETA_VERSION_H
#define KETA_VERSION_H

#define ETCD_SERVER_VERSION "3.7.1"
#define ETCD_CLUSTER_VERSION "3.7.0"
#define ETCD_STORAGE_VERSION "3.7.0"

#endif
