/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/fault_vfs.h"

#include <assert.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <time.h>

#include "lib/disk.h"

enum { CHANGES = FAULT_WRITE | FAULT_TRUNCATE | FAULT_SYNC | FAULT_DELETE };

struct file {
	sqlite3_file base;
	struct disk_file *disk; /* NULL for files that do not concern us */
	bool syncs_directory;   /* as SQLite's own: with the first sync of a new journal */
	sqlite3_file *real;
};

static struct {
	char dir[512];
	struct fault fault;
	int64_t calls; /* counted for the fault */
	bool happened;
	int64_t cut_at; /* changes left until the cut; 0: none is planned */
	bool off;
} plan;

/* The server's threads share the plan, the counts and the disk. */
static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;

static _Atomic unsigned stalled; /* kinds of calls */

static sqlite3_vfs *real_vfs;
static sqlite3_vfs fault_vfs;

static bool concerns(const char *path)
{
	size_t len = strlen(plan.dir);

	return len > 0 && path != NULL && strncmp(path, plan.dir, len) == 0 && path[len] == '/';
}

static int natural_code(enum fault_call call)
{
	switch (call) {
	case FAULT_OPEN:
		return SQLITE_CANTOPEN;
	case FAULT_READ:
		return SQLITE_IOERR_READ;
	case FAULT_WRITE:
		return SQLITE_IOERR_WRITE;
	case FAULT_TRUNCATE:
		return SQLITE_IOERR_TRUNCATE;
	case FAULT_SYNC:
		return SQLITE_IOERR_FSYNC;
	default:
		return SQLITE_IOERR_DELETE;
	}
}

/* Counts a call; what it returns instead of doing its work, or SQLITE_OK. Under the guard. */
static int refuse(enum fault_call call)
{
	if (plan.off)
		return natural_code(call);
	if (plan.cut_at > 0 && (CHANGES & call) && --plan.cut_at == 0) {
		plan.off = true;
		return natural_code(call);
	}
	if (plan.fault.at == 0 || !(plan.fault.calls & call))
		return SQLITE_OK;
	plan.calls++;
	if (plan.calls < plan.fault.at || (plan.calls > plan.fault.at && !plan.fault.from_then_on))
		return SQLITE_OK;
	plan.happened = true;
	return plan.fault.code != 0 ? plan.fault.code : natural_code(call);
}

static void await_leave(const struct file *file, enum fault_call call)
{
	while (file->disk != NULL && (atomic_load(&stalled) & call) != 0)
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

static struct file *to_file(sqlite3_file *base)
{
	return (struct file *)base;
}

static int close_file(sqlite3_file *base)
{
	sqlite3_file *real = to_file(base)->real;

	return real->pMethods->xClose(real);
}

static int refuse_read(void)
{
	int code;

	pthread_mutex_lock(&guard);
	code = refuse(FAULT_READ);
	pthread_mutex_unlock(&guard);
	return code;
}

static int read_file(sqlite3_file *base, void *data, int len, sqlite3_int64 offset)
{
	struct file *file = to_file(base);
	int code = file->disk != NULL ? refuse_read() : SQLITE_OK;

	return code != SQLITE_OK ? code : file->real->pMethods->xRead(file->real, data, len, offset);
}

/* Under the guard. */
static int put_bytes(struct file *file, const void *data, int len, sqlite3_int64 offset)
{
	bool was_off = plan.off;
	int code = refuse(FAULT_WRITE);
	int put = code == SQLITE_OK ? len : plan.fault.torn && !plan.off ? len / 2 : 0;
	int done = SQLITE_OK;

	/* The write that the cut hits may have reached the disk, wholly or in part. */
	if (!was_off && (put > 0 || plan.off))
		disk_write(file->disk, offset, data, (size_t)(plan.off ? len : put));
	if (put > 0)
		done = file->real->pMethods->xWrite(file->real, data, put, offset);
	return code != SQLITE_OK ? code : done;
}

static int write_file(sqlite3_file *base, const void *data, int len, sqlite3_int64 offset)
{
	struct file *file = to_file(base);
	int code;

	if (file->disk == NULL)
		return file->real->pMethods->xWrite(file->real, data, len, offset);
	await_leave(file, FAULT_WRITE);
	pthread_mutex_lock(&guard);
	code = put_bytes(file, data, len, offset);
	pthread_mutex_unlock(&guard);
	return code;
}

static int truncate_file(sqlite3_file *base, sqlite3_int64 size)
{
	struct file *file = to_file(base);
	int code = SQLITE_OK;

	pthread_mutex_lock(&guard);
	if (file->disk != NULL)
		code = refuse(FAULT_TRUNCATE);
	if (file->disk != NULL && code == SQLITE_OK)
		disk_truncate(file->disk, size);
	pthread_mutex_unlock(&guard);
	return code != SQLITE_OK ? code : file->real->pMethods->xTruncate(file->real, size);
}

/* Under the guard. */
static int make_durable(struct file *file)
{
	int code = refuse(FAULT_SYNC);

	if (code != SQLITE_OK && !plan.off && plan.fault.loses)
		disk_lose(file->disk);
	if (code != SQLITE_OK)
		return code;
	disk_sync(file->disk);
	if (file->syncs_directory)
		disk_sync_directory();
	file->syncs_directory = false;
	return SQLITE_OK;
}

static int sync_file(sqlite3_file *base, int flags)
{
	struct file *file = to_file(base);
	int code = SQLITE_OK;

	(void)flags;
	await_leave(file, FAULT_SYNC);
	pthread_mutex_lock(&guard);
	if (file->disk != NULL)
		code = make_durable(file);
	pthread_mutex_unlock(&guard);
	return code;
}

static int file_size(sqlite3_file *base, sqlite3_int64 *size)
{
	struct file *file = to_file(base);
	int code = file->disk != NULL ? refuse_read() : SQLITE_OK;

	return code != SQLITE_OK ? SQLITE_IOERR_FSTAT : file->real->pMethods->xFileSize(file->real, size);
}

static int lock(sqlite3_file *base, int kind)
{
	sqlite3_file *real = to_file(base)->real;

	return real->pMethods->xLock(real, kind);
}

static int unlock(sqlite3_file *base, int kind)
{
	sqlite3_file *real = to_file(base)->real;

	return real->pMethods->xUnlock(real, kind);
}

static int check_lock(sqlite3_file *base, int *held)
{
	sqlite3_file *real = to_file(base)->real;

	return real->pMethods->xCheckReservedLock(real, held);
}

static int control(sqlite3_file *base, int what, void *arg)
{
	sqlite3_file *real = to_file(base)->real;

	/* Growing the file ahead of the writes goes past our accounts. */
	if (what == SQLITE_FCNTL_SIZE_HINT || what == SQLITE_FCNTL_CHUNK_SIZE)
		return SQLITE_OK;
	return real->pMethods->xFileControl(real, what, arg);
}

static int sector_size(sqlite3_file *base)
{
	sqlite3_file *real = to_file(base)->real;

	return real->pMethods->xSectorSize(real);
}

static int characteristics(sqlite3_file *base)
{
	sqlite3_file *real = to_file(base)->real;

	return real->pMethods->xDeviceCharacteristics(real);
}

static int shm_map(sqlite3_file *base, int page, int size, int extend, void volatile **memory)
{
	sqlite3_file *real = to_file(base)->real;

	return real->pMethods->xShmMap(real, page, size, extend, memory);
}

static int shm_lock(sqlite3_file *base, int offset, int n, int flags)
{
	sqlite3_file *real = to_file(base)->real;

	return real->pMethods->xShmLock(real, offset, n, flags);
}

static void shm_barrier(sqlite3_file *base)
{
	sqlite3_file *real = to_file(base)->real;

	real->pMethods->xShmBarrier(real);
}

static int shm_unmap(sqlite3_file *base, int delete_it)
{
	sqlite3_file *real = to_file(base)->real;

	return real->pMethods->xShmUnmap(real, delete_it);
}

static const sqlite3_io_methods METHODS = {
	.iVersion = 2, /* without those for mapped files */
	.xClose = close_file,
	.xRead = read_file,
	.xWrite = write_file,
	.xTruncate = truncate_file,
	.xSync = sync_file,
	.xFileSize = file_size,
	.xLock = lock,
	.xUnlock = unlock,
	.xCheckReservedLock = check_lock,
	.xFileControl = control,
	.xSectorSize = sector_size,
	.xDeviceCharacteristics = characteristics,
	.xShmMap = shm_map,
	.xShmLock = shm_lock,
	.xShmBarrier = shm_barrier,
	.xShmUnmap = shm_unmap,
};

/* Under the guard. */
static int open_ours(const char *path, struct file *file, int flags, int *out_flags)
{
	int existed = 0;
	int code = refuse(FAULT_OPEN);

	if (code == SQLITE_OK)
		code = real_vfs->xAccess(real_vfs, path, SQLITE_ACCESS_EXISTS, &existed);
	if (code == SQLITE_OK)
		code = real_vfs->xOpen(real_vfs, path, file->real, flags, out_flags);
	if (code == SQLITE_OK)
		file->disk = disk_open(path, !existed);
	return code;
}

static int open_file(sqlite3_vfs *vfs, const char *path, sqlite3_file *base, int flags, int *out_flags)
{
	struct file *file = to_file(base);
	int journals = SQLITE_OPEN_MAIN_JOURNAL | SQLITE_OPEN_SUPER_JOURNAL | SQLITE_OPEN_WAL;
	int code;

	(void)vfs;
	*file = (struct file){.real = (sqlite3_file *)(file + 1)};
	pthread_mutex_lock(&guard);
	if (concerns(path))
		code = open_ours(path, file, flags, out_flags);
	else
		code = real_vfs->xOpen(real_vfs, path, file->real, flags, out_flags);
	pthread_mutex_unlock(&guard);
	if (code != SQLITE_OK)
		return code;
	file->syncs_directory = (flags & SQLITE_OPEN_CREATE) && (flags & journals);
	file->base.pMethods = &METHODS;
	return SQLITE_OK;
}

/* Under the guard. */
static int delete_ours(const char *path, int sync_directory)
{
	int code = refuse(FAULT_DELETE);

	if (code == SQLITE_OK)
		code = real_vfs->xDelete(real_vfs, path, 0);
	if (code != SQLITE_OK)
		return code;
	disk_delete(path);
	if (sync_directory)
		disk_sync_directory();
	return SQLITE_OK;
}

static int delete_file(sqlite3_vfs *vfs, const char *path, int sync_directory)
{
	int code;

	(void)vfs;
	if (!concerns(path))
		return real_vfs->xDelete(real_vfs, path, 0);
	pthread_mutex_lock(&guard);
	code = delete_ours(path, sync_directory);
	pthread_mutex_unlock(&guard);
	return code;
}

void fault_vfs_start(const char *dir)
{
	memset(&plan, 0, sizeof plan);
	atomic_store(&stalled, 0);
	assert(strlen(dir) < sizeof plan.dir);
	memcpy(plan.dir, dir, strlen(dir) + 1);
	disk_forget();
	if (real_vfs != NULL)
		return;
	real_vfs = sqlite3_vfs_find("unix-excl");
	assert(real_vfs != NULL);
	fault_vfs = *real_vfs;
	fault_vfs.pNext = NULL;
	fault_vfs.zName = FAULT_VFS;
	fault_vfs.szOsFile = (int)sizeof(struct file) + real_vfs->szOsFile;
	fault_vfs.xOpen = open_file;
	fault_vfs.xDelete = delete_file;
	sqlite3_vfs_register(&fault_vfs, 0);
}

void fault_vfs_plan(const struct fault *fault)
{
	pthread_mutex_lock(&guard);
	plan.fault = fault != NULL ? *fault : (struct fault){0};
	plan.calls = 0;
	plan.happened = false;
	pthread_mutex_unlock(&guard);
}

bool fault_vfs_happened(void)
{
	bool happened;

	pthread_mutex_lock(&guard);
	happened = plan.happened;
	pthread_mutex_unlock(&guard);
	return happened;
}

void fault_vfs_stall(unsigned calls)
{
	atomic_store(&stalled, calls);
}

void fault_vfs_cut_at(int64_t call)
{
	plan.cut_at = call;
}

void fault_vfs_cut(void)
{
	plan.off = true;
}

bool fault_vfs_is_off(void)
{
	return plan.off;
}

void fault_vfs_power_on(struct prng *prng)
{
	disk_restore(prng);
	plan.off = false;
	plan.cut_at = 0;
}
