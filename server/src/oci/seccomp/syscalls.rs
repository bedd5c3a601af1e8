//! Which system calls the default filter allows: names only, by theme.
//!
//! Sources: the default profile of moby (github moby/profiles, seccomp/default.json, 2026) and of
//! containerd (contrib/seccomp), which agree on what an unprivileged container needs; syscalls(2),
//! capabilities(7) and clone(2) of Linux man-pages for what each call does. Names that a host's libseccomp
//! does not know are skipped by the runtimes.
//!
//! Left out on purpose, although one or the other profile has had them:
//! - `io_uring_*`: a second way to make most calls, which no filter sees, with a long record of holes;
//! - `keyctl`, `add_key`, `request_key`: the kernel's key rings are not namespaced;
//! - `socketcall`: takes its arguments by pointer, so that the rule on `socket` could be walked around;
//! - `userfaultfd`, `kexec_*`, `swapon`, `swapoff`, `nfsservctl`, `uselib`, `ustat`, `sysfs`, `vm86`: no use in
//!   a container that is worth their risk.

/// Allowed whatever the arguments and capabilities: each list is separated by spaces.
pub(super) const ALWAYS: &[&str] = &[
    FILES,
    FILE_DATA,
    ATTRIBUTES,
    DESCRIPTORS,
    POLLING,
    MEMORY,
    PROCESSES,
    IDENTITY,
    SCHEDULING,
    SIGNALS,
    CLOCKS,
    SOCKETS,
    SYSTEM_V_IPC,
    CONFINEMENT,
    SYSTEM,
    ARCHITECTURE,
];

const FILES: &str = "access chdir chmod chown chown32 creat faccessat faccessat2 fchdir fchmod fchmodat \
    fchmodat2 fchown fchown32 fchownat fstat fstat64 fstatat64 fstatfs fstatfs64 futimesat getcwd getdents \
    getdents64 lchown lchown32 link linkat listmount lstat lstat64 mkdir mkdirat mknod mknodat \
    name_to_handle_at newfstatat open openat openat2 readlink readlinkat rename renameat renameat2 rmdir stat \
    stat64 statfs statfs64 statmount statx symlink symlinkat truncate truncate64 umask unlink unlinkat utime \
    utimensat utimensat_time64 utimes";

const FILE_DATA: &str = "_llseek copy_file_range fadvise64 fadvise64_64 fallocate fdatasync fsync ftruncate \
    ftruncate64 io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit lseek \
    pread64 preadv preadv2 pwrite64 pwritev pwritev2 read readahead readv sendfile sendfile64 splice sync \
    sync_file_range syncfs tee vmsplice write writev";

const ATTRIBUTES: &str = "fgetxattr file_getattr file_setattr flistxattr fremovexattr fsetxattr getxattr \
    getxattrat lgetxattr listxattr listxattrat llistxattr lremovexattr lsetxattr removexattr removexattrat \
    setxattr setxattrat";

const DESCRIPTORS: &str = "close close_range dup dup2 dup3 eventfd eventfd2 fanotify_mark fcntl fcntl64 flock \
    inotify_add_watch inotify_init inotify_init1 inotify_rm_watch ioctl memfd_create memfd_secret pipe pipe2 \
    signalfd signalfd4 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64";

const POLLING: &str = "_newselect epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 \
    epoll_wait epoll_wait_old poll ppoll ppoll_time64 pselect6 pselect6_time64 select";

const MEMORY: &str = "brk cachestat madvise map_shadow_stack membarrier mincore mlock mlock2 mlockall mmap \
    mmap2 mprotect mremap mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect \
    remap_file_pages";

/// `ptrace` and its kin have been safe under a filter since Linux 4.8 (seccomp(2), "Caveats"), and
/// reach only processes of the same user without CAP_SYS_PTRACE.
const PROCESSES: &str = "execve execveat exit exit_group fork getpgid getpgrp getpid getppid getsid gettid \
    pidfd_open prctl process_mrelease process_vm_readv process_vm_writev ptrace restart_syscall rseq \
    set_robust_list get_robust_list set_tid_address setpgid setsid vfork wait4 waitid waitpid";

const IDENTITY: &str = "capget capset getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups \
    getgroups32 getresgid getresgid32 getresuid getresuid32 getuid getuid32 setfsgid setfsgid32 setfsuid \
    setfsuid32 setgid setgid32 setgroups setgroups32 setregid setregid32 setresgid setresgid32 setresuid \
    setresuid32 setreuid setreuid32 setuid setuid32";

const SCHEDULING: &str = "futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake getcpu \
    getpriority getrlimit getrusage ioprio_get ioprio_set prlimit64 sched_get_priority_max \
    sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler \
    sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam \
    sched_setscheduler sched_yield setpriority setrlimit ugetrlimit";

const SIGNALS: &str = "kill pause pidfd_send_signal rt_sigaction rt_sigpending rt_sigprocmask \
    rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo \
    sigaltstack sigprocmask sigreturn tgkill tkill";

/// Setting a clock with `adjtimex` and its kin needs CAP_SYS_TIME; reading one does not.
const CLOCKS: &str = "adjtimex alarm clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 \
    clock_gettime clock_gettime64 clock_nanosleep clock_nanosleep_time64 getitimer gettimeofday nanosleep \
    setitimer time timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime \
    timer_settime64 times";

const SOCKETS: &str = "accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom \
    recvmmsg recvmmsg_time64 recvmsg send sendmmsg sendmsg sendto setsockopt shutdown socketpair";

const SYSTEM_V_IPC: &str = "ipc mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 \
    mq_timedsend mq_timedsend_time64 mq_unlink msgctl msgget msgrcv msgsnd semctl semget semop semtimedop \
    semtimedop_time64 shmat shmctl shmdt shmget";

/// A process may always bind itself tighter.
const CONFINEMENT: &str =
    "landlock_add_rule landlock_create_ruleset landlock_restrict_self seccomp";

const SYSTEM: &str = "get_thread_area getrandom set_thread_area sysinfo uname uretprobe";

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: &str = "arch_prctl modify_ldt";
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: &str =
    "arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls sync_file_range2";
#[cfg(target_arch = "powerpc64")]
const ARCHITECTURE: &str = "swapcontext sync_file_range2";
#[cfg(target_arch = "riscv64")]
const ARCHITECTURE: &str = "riscv_flush_icache riscv_hwprobe";
#[cfg(target_arch = "s390x")]
const ARCHITECTURE: &str = "s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr";
#[cfg(not(any(
    target_arch = "x86_64",
    target_arch = "aarch64",
    target_arch = "powerpc64",
    target_arch = "riscv64",
    target_arch = "s390x"
)))]
const ARCHITECTURE: &str = "";

/// What one capability opens besides.
pub(super) struct Group {
    pub(super) capability: oci_spec::runtime::Capability,
    pub(super) names: &'static str,
}

/// The calls that only make sense with a capability: the kernel would refuse most of them without it,
/// and a call that is refused here cannot be attacked.
pub(super) const BY_CAPABILITY: &[Group] = {
    use oci_spec::runtime::Capability as C;
    &[
        group(C::Bpf, "bpf"),
        group(C::DacReadSearch, "open_by_handle_at"),
        group(C::Perfmon, "perf_event_open"),
        group(
            C::SysAdmin,
            "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie \
             lsm_get_self_attr lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree \
             perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog umount \
             umount2 unshare",
        ),
        group(C::SysBoot, "reboot"),
        group(C::SysChroot, "chroot"),
        group(C::SysModule, "delete_module finit_module init_module"),
        group(
            C::SysNice,
            "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
        ),
        group(C::SysPacct, "acct"),
        group(C::SysPtrace, "kcmp pidfd_getfd process_madvise"),
        group(C::SysRawio, "ioperm iopl"),
        group(
            C::SysTime,
            "clock_settime clock_settime64 settimeofday stime",
        ),
        group(C::SysTtyConfig, "vhangup"),
        group(C::Syslog, "syslog"),
    ]
};

const fn group(capability: oci_spec::runtime::Capability, names: &'static str) -> Group {
    Group { capability, names }
}
