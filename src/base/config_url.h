/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The elements of lists of URLs and origins. Each function takes one that is not
 * empty and returns NULL, or what is wrong with it, a static text. No name is
 * looked up: what only the network can tell is found out when the server
 * starts. For config_value.c only.
 */
#ifndef KETA_CONFIG_URL_H
#define KETA_CONFIG_URL_H

#include <stddef.h>

/* http://HOST:PORT to listen at. An empty host stands for all addresses; https
 * is refused as long as there is no TLS. */
const char *config_check_listener(const char *text, size_t len);

/* http://HOST:PORT or https://HOST:PORT as told to clients: whoever stands in
 * front of the server may speak TLS for it. */
const char *config_check_url(const char *text, size_t len);

/* What a browser puts into Origin, SCHEME://HOST or SCHEME://HOST:PORT, or '*'.
 * Anything else, such as a '/' at the end, would equal no origin ever. */
const char *config_check_origin(const char *text, size_t len);

#endif
