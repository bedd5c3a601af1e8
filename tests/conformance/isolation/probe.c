/* What no shell can try: run inside of containers by the scenarios of isolation, one question a call. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char *name_of(int error) {
    const char *name = error ? strerrorname_np(error) : "OK";
    return name ? name : "UNKNOWN";
}

/* --- calls: how the kernel answers calls that a container should not make --- */

struct attempt {
    const char *name;
    long number;
    long arguments[5];
};

#define NOWHERE ((long)"/nowhere")
/* mount, with a file system that is there, to a place that is there: refused for nothing but the right. */
#define MEMORY ((long)"tmpfs")
#define PLACE ((long)"/tmp")

static const struct attempt ATTEMPTS[] = {
    {"mount", SYS_mount, {MEMORY, PLACE, MEMORY, 0, 0}},
    {"umount2", SYS_umount2, {(long)"/dev/mqueue", 0}},
    {"pivot_root", SYS_pivot_root, {PLACE, PLACE}},
    {"fsopen", SYS_fsopen, {MEMORY, 0}},
    {"open_tree", SYS_open_tree, {AT_FDCWD, PLACE, 1}},
    {"move_mount", SYS_move_mount, {-1, NOWHERE, -1, NOWHERE, 0}},
    {"mount_setattr", SYS_mount_setattr, {-1, NOWHERE, 0, 0, 0}},
    {"unshare-user", SYS_unshare, {CLONE_NEWUSER}},
    {"unshare-mount", SYS_unshare, {CLONE_NEWNS}},
    {"setns", SYS_setns, {-1, 0}},
    {"clone-user", SYS_clone, {CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0}},
    {"clone3", SYS_clone3, {0, 0}},
    {"bpf", SYS_bpf, {0, 0, 0}},
    {"keyctl", SYS_keyctl, {0, -3, 1}},
    {"add_key", SYS_add_key, {(long)"user", (long)"probe", (long)"x", 1, -2}},
    {"request_key", SYS_request_key, {(long)"user", (long)"probe", 0, 0}},
    {"io_uring_setup", SYS_io_uring_setup, {1, 0}},
    {"userfaultfd", SYS_userfaultfd, {1}},
    {"perf_event_open", SYS_perf_event_open, {0, 0, -1, -1, 0}},
    {"kexec_load", SYS_kexec_load, {0, 0, 0, 0}},
    {"open_by_handle_at", SYS_open_by_handle_at, {-1, 0, 0}},
    {"init_module", SYS_init_module, {0, 0, 0}},
    {"finit_module", SYS_finit_module, {-1, 0, 0}},
    {"delete_module", SYS_delete_module, {NOWHERE, 0}},
    {"reboot", SYS_reboot, {0, 0, 0, 0}},
    {"swapon", SYS_swapon, {NOWHERE, 0}},
    {"acct", SYS_acct, {NOWHERE}},
    {"quotactl", SYS_quotactl, {-1, 0, 0, 0}},
    {"settimeofday", SYS_settimeofday, {0, 0}},
    {"chroot", SYS_chroot, {PLACE}},
    {"sethostname", SYS_sethostname, {(long)"probe", 5}},
    {"syslog", SYS_syslog, {3, 0, 0}},
    {"socket-alg", SYS_socket, {38, SOCK_SEQPACKET, 0}},
    {"socket-vsock", SYS_socket, {40, SOCK_STREAM, 0}},
    {"personality", SYS_personality, {0x0040000}},
    {"fanotify_init", SYS_fanotify_init, {0, 0}},
};

static int answer(const struct attempt *attempt) {
    const long *a = attempt->arguments;
    pid_t child = fork();
    if (child == 0) {
        long result = syscall(attempt->number, a[0], a[1], a[2], a[3], a[4]);
        _exit(result < 0 ? errno : 0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int calls(void) {
    for (size_t at = 0; at < sizeof ATTEMPTS / sizeof *ATTEMPTS; at++)
        printf("%s %s\n", ATTEMPTS[at].name, name_of(answer(&ATTEMPTS[at])));
    return 0;
}

/* --- descriptors: which are open, without opening one to find out --- */

static int descriptors(void) {
    for (int fd = 0; fd < 4096; fd++)
        if (fcntl(fd, F_GETFD) >= 0)
            printf("%d\n", fd);
    return 0;
}

/* --- programs: tries to open the program of every process that comes by, for some seconds --- */

static int is_of_the_image(const struct stat *found) {
    static const char *OWN[] = {"/bin/busybox", "/bin/probe"};
    struct stat own;
    for (size_t at = 0; at < sizeof OWN / sizeof *OWN; at++)
        if (stat(OWN[at], &own) == 0 && own.st_dev == found->st_dev && own.st_ino == found->st_ino)
            return 1;
    return 0;
}

static void try_program(const char *pid) {
    char path[300];
    struct stat found;
    snprintf(path, sizeof path, "/proc/%s/exe", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        if (fstat(fd, &found) == 0 && !is_of_the_image(&found))
            printf("read %s of %ju:%ju\n", path, (uintmax_t)found.st_dev, (uintmax_t)found.st_ino);
        close(fd);
    }
    fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        if (fstat(fd, &found) == 0 && !is_of_the_image(&found))
            printf("write %s of %ju:%ju\n", path, (uintmax_t)found.st_dev, (uintmax_t)found.st_ino);
        close(fd);
    }
}

static int programs(int seconds) {
    time_t end = time(NULL) + seconds;
    pid_t highest = 0;
    while (time(NULL) < end) {
        DIR *all = opendir("/proc");
        struct dirent *entry;
        while (all && (entry = readdir(all)))
            if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9') {
                pid_t pid = atoi(entry->d_name);
                highest = pid > highest ? pid : highest;
                try_program(entry->d_name);
            }
        if (all)
            closedir(all);
    }
    printf("highest %d\n", highest);
    return 0;
}

/* --- swap: exchanges two names for some seconds, as fast as it goes --- */

static int swap(const char *one, const char *other, int seconds) {
    time_t end = time(NULL) + seconds;
    long count = 0;
    while (time(NULL) < end)
        for (int at = 0; at < 1000; at++)
            if (syscall(SYS_renameat2, AT_FDCWD, one, AT_FDCWD, other, 2 /* RENAME_EXCHANGE */) == 0)
                count++;
    printf("%ld\n", count);
    return 0;
}

/* --- device: makes a device file and opens it --- */

static int device(const char *kind, const char *major, const char *minor) {
    mode_t mode = (kind[0] == 'b' ? S_IFBLK : S_IFCHR) | 0600;
    unlink("/tmp/device");
    if (mknod("/tmp/device", mode, (dev_t)((atoi(major) << 8) | atoi(minor))) != 0) {
        printf("mknod %s\n", name_of(errno));
        return 0;
    }
    int fd = open("/tmp/device", O_RDONLY | O_NONBLOCK);
    printf("open %s\n", name_of(fd < 0 ? errno : 0));
    return 0;
}

/* --- daemon: a grandchild in a session of its own that nobody waits for --- */

static int leave(const char *seconds) {
    if (fork() != 0)
        return 0;
    setsid();
    if (fork() != 0)
        _exit(0);
    signal(SIGTERM, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    for (int fd = 0; fd < 3; fd++)
        close(fd);
    execl("/bin/sleep", "sleep", seconds, (char *)0);
    _exit(1);
}

/* --- forks: processes that only wait, until there are no more to be had --- */

static int forks(void) {
    int count = 0;
    for (;;) {
        pid_t child = fork();
        if (child == 0) {
            pause();
            _exit(0);
        }
        if (child < 0)
            break;
        count++;
    }
    printf("%d %s\n", count, name_of(errno));
    fflush(stdout);
    for (;;)
        pause();
}

/* --- memory: touches this many MiB, in a child if asked to --- */

static int memory(int mebibytes) {
    size_t size = (size_t)mebibytes << 20;
    char *all = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (all == MAP_FAILED)
        return 1;
    for (size_t at = 0; at < size; at += 4096)
        all[at] = 1;
    printf("touched\n");
    return 0;
}

/* --- keyring: the number of the session's, as the kernel counts keys --- */

static int keyring(void) {
    const int get_keyring_id = 0, session_keyring = -3; /* linux/keyctl.h */
    printf("%ld\n", syscall(SYS_keyctl, get_keyring_id, session_keyring, 0));
    return 0;
}

int main(int count, char **words) {
    const char *what = count > 1 ? words[1] : "";
    if (strcmp(what, "calls") == 0)
        return calls();
    if (strcmp(what, "descriptors") == 0)
        return descriptors();
    if (strcmp(what, "programs") == 0 && count == 3)
        return programs(atoi(words[2]));
    if (strcmp(what, "swap") == 0 && count == 5)
        return swap(words[2], words[3], atoi(words[4]));
    if (strcmp(what, "device") == 0 && count == 5)
        return device(words[2], words[3], words[4]);
    if (strcmp(what, "leave") == 0 && count == 3)
        return leave(words[2]);
    if (strcmp(what, "forks") == 0)
        return forks();
    if (strcmp(what, "memory") == 0 && count == 3)
        return memory(atoi(words[2]));
    if (strcmp(what, "keyring") == 0)
        return keyring();
    fprintf(stderr, "probe: no question %s\n", what);
    return 2;
}
