/* SPDX-License-Identifier: Apache-2.0 */
/* The file and the environment, read into a loader. For config.c only. */
#ifndef KETA_CONFIG_SOURCES_H
#define KETA_CONFIG_SOURCES_H

#include "base/config_loader.h"

/* What is wrong with the file is noted in the loader. */
void config_load_file(struct config_loader *loader, const char *path);

/* Takes the variables that begin with KETA_; 'environment' ends with NULL. */
void config_load_environment(struct config_loader *loader, char **environment);

#endif
