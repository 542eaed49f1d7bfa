/* SPDX-License-Identifier: Apache-2.0 */
#include "state/data_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/logger.h"

static enum status_code refuse(const char *message, const char *path, int error)
{
	logger_error("store", message, LOG_STR("path", path), LOG_STR("error", strerror(error)), LOG_END);
	return error == ENOSPC || error == EDQUOT ? STATUS_DISK_FULL : STATUS_IO_ERROR;
}

/* The directory's own entry must be on disk before anything in it is promised. */
static enum status_code sync_parent(const char *dir)
{
	char *parent = strdup(dir);
	size_t len = strlen(dir);
	int fd;

	if (parent == NULL)
		return STATUS_NO_MEMORY;
	while (len > 1 && parent[len - 1] == '/')
		len--;
	while (len > 0 && parent[len - 1] != '/')
		len--;
	parent[len] = '\0';
	fd = open(len > 0 ? parent : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	free(parent);
	/* A parent that may not be opened belongs to somebody else, who made the entry. */
	if (fd >= 0) {
		fsync(fd);
		close(fd);
	}
	return STATUS_OK;
}

/* Who put this server in etcd's place and kept the directory should hear that
 * nothing of it is served. */
static void note_data_of_etcd(const char *dir)
{
	struct stat info;
	char path[4096];

	snprintf(path, sizeof path, "%s/member", dir);
	if (stat(path, &info) == 0 && S_ISDIR(info.st_mode))
		logger_warn("store", "the data directory holds data of etcd, which is not read",
		            LOG_STR("path", path), LOG_END);
}

enum status_code data_dir_make(const char *dir)
{
	struct stat info;

	if (mkdir(dir, 0700) != 0) {
		int error = errno;

		if (stat(dir, &info) != 0 && error == ENOENT)
			return refuse("cannot create the data directory: its parent must exist", dir,
			              error);
		if (stat(dir, &info) != 0)
			return refuse("cannot create the data directory", dir, error);
		if (!S_ISDIR(info.st_mode))
			return refuse("the data directory is no directory", dir, ENOTDIR);
		note_data_of_etcd(dir);
	}
	return sync_parent(dir);
}

enum status_code data_dir_lock(const char *dir, int *lock_fd)
{
	char path[4096];

	snprintf(path, sizeof path, "%s/keta.lock", dir);
	*lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (*lock_fd < 0)
		return refuse("cannot write in the data directory", path, errno);
	if (flock(*lock_fd, LOCK_EX | LOCK_NB) != 0) {
		logger_error("store", "the data directory is in use by another server", LOG_STR("dir", dir),
		             LOG_END);
		return STATUS_BUSY;
	}
	return STATUS_OK;
}

enum status_code data_dir_check_file(const char *path)
{
	struct stat info;

	if (stat(path, &info) != 0)
		return errno == ENOENT ? STATUS_OK : refuse("cannot open the database", path, errno);
	if (!S_ISREG(info.st_mode))
		return refuse("the database is no file", path, S_ISDIR(info.st_mode) ? EISDIR : EINVAL);
	if (access(path, R_OK | W_OK) != 0)
		return refuse("cannot open the database", path, errno);
	return STATUS_OK;
}

static void discard_path(const char *dir, char *path, size_t size)
{
	snprintf(path, size, "%s/keta.discard", dir);
}

static enum status_code sync_dir(const char *dir)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bool synced = fd >= 0 && fsync(fd) == 0;
	int error = errno;

	if (fd >= 0)
		close(fd);
	return synced ? STATUS_OK : refuse("cannot write in the data directory", dir, error);
}

enum status_code data_dir_note_discard(const char *dir)
{
	char path[4096];
	int fd;

	discard_path(dir, path, sizeof path);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return refuse("cannot write in the data directory", path, errno);
	close(fd);
	return sync_dir(dir);
}

bool data_dir_is_discarded(const char *dir)
{
	char path[4096];

	discard_path(dir, path, sizeof path);
	return access(path, F_OK) == 0;
}

enum status_code data_dir_forget_discard(const char *dir)
{
	char path[4096];

	discard_path(dir, path, sizeof path);
	if (unlink(path) != 0)
		return errno == ENOENT ? STATUS_OK
		                       : refuse("cannot write in the data directory", path, errno);
	return sync_dir(dir);
}
