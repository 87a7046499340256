/*
 * The native functions of Cricket: sys(nr, ...args) makes a raw system call and returns its result, or -errno.
 * sysAsync does the same on a pool thread and returns a promise; addr(buffer) is where a Buffer's bytes are.
 * clonePaused(flags) makes a child in new namespaces that does nothing until it is killed, and returns its pid, or -errno.
 * aside(milliseconds, nr, ...args) makes a call that may never return on a thread kept for that: its result, or undefined when it takes
 * longer. asideEvent() is an eventfd that is readable once it has returned after all, asideOver() then its result; one call at a time.
 * spawn(file, arguments, environment, settings) executes a program without copying this process, and returns its pid, or -errno.
 * numbers(files, count, names, paths, numbers) reads many small files and finds numbers in them; returns how many it opened or could not read.
 * An argument is an integral number, a bigint, a string (copied, without NUL inside), a Buffer (its address), null or undefined (0).
 */
#define _GNU_SOURCE
#define NAPI_VERSION 8
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <node_api.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { ARGS = 7 };
#define SAFE_INTEGER 9007199254740991.0

typedef struct {
  long value[ARGS], result;
  char *copy[ARGS];
  napi_ref held[ARGS];
  napi_deferred deferred;
  napi_async_work work;
} call;

static int convert(napi_env env, napi_value v, long *out, char **copy) {
  napi_valuetype type; double number; bool yes; size_t size; void *data; int64_t sint; uint64_t uint;
  if (napi_typeof(env, v, &type) != napi_ok) return 0;
  switch (type) {
  case napi_null: case napi_undefined: *out = 0; return 1;
  case napi_number:
    if (napi_get_value_double(env, v, &number) != napi_ok || !(number >= -SAFE_INTEGER && number <= SAFE_INTEGER)) return 0;
    *out = (long)number; return (double)*out == number;
  case napi_bigint:
    if (napi_get_value_bigint_int64(env, v, &sint, &yes) == napi_ok && yes) { *out = sint; return 1; }
    if (napi_get_value_bigint_uint64(env, v, &uint, &yes) == napi_ok && yes) { *out = (long)uint; return 1; }
    return 0;
  case napi_string:
    if (napi_get_value_string_utf8(env, v, NULL, 0, &size) != napi_ok || !(*copy = malloc(size + 1))) return 0;
    *out = (long)*copy; return napi_get_value_string_utf8(env, v, *copy, size + 1, &size) == napi_ok && strlen(*copy) == size;
  case napi_object:
    if (napi_is_buffer(env, v, &yes) != napi_ok || !yes || napi_get_buffer_info(env, v, &data, &size) != napi_ok) return 0;
    *out = (long)data; return 1;
  default: return 0;
  }
}

static void release(napi_env env, call *c) {
  for (int i = 0; i < ARGS; i++) { free(c->copy[i]); if (c->held[i]) napi_delete_reference(env, c->held[i]); }
}

/* Reads all arguments, or throws and leaves nothing behind. Buffers of an asynchronous call are held until it is over. */
static int read_arguments(napi_env env, napi_callback_info info, call *c, int hold) {
  size_t count = ARGS; napi_value args[ARGS]; bool buffer;
  if (napi_get_cb_info(env, info, &count, args, NULL, NULL) != napi_ok) return 0;
  int good = count >= 1 && count <= ARGS;
  for (size_t i = 0; good && i < count; i++) {
    good = convert(env, args[i], &c->value[i], &c->copy[i]);
    if (good && hold && napi_is_buffer(env, args[i], &buffer) == napi_ok && buffer)
      good = napi_create_reference(env, args[i], 1, &c->held[i]) == napi_ok;
  }
  if (!good) { release(env, c); napi_throw_type_error(env, "ERR_INVALID_ARG_TYPE", "invalid system call argument"); }
  return good;
}

static void perform(napi_env env, void *data) {
  call *c = data; long *v = c->value; (void)env;
  c->result = syscall(v[0], v[1], v[2], v[3], v[4], v[5], v[6]);
  if (c->result == -1) c->result = -errno;
}

static napi_value to_js(napi_env env, long result) {
  napi_value out = NULL;
  if (result >= -SAFE_INTEGER && result <= SAFE_INTEGER) napi_create_int64(env, result, &out); else napi_create_bigint_int64(env, result, &out);
  return out;
}

static napi_value sys(napi_env env, napi_callback_info info) {
  call c = {0};
  if (!read_arguments(env, info, &c, 0)) return NULL;
  perform(env, &c); release(env, &c);
  return to_js(env, c.result);
}

static void finish(napi_env env, napi_status status, void *data) {
  call *c = data; (void)status;
  napi_resolve_deferred(env, c->deferred, to_js(env, c->result));
  napi_delete_async_work(env, c->work); release(env, c); free(c);
}

static napi_value sys_async(napi_env env, napi_callback_info info) {
  napi_value promise, name; call *c = calloc(1, sizeof *c);
  if (!c || !read_arguments(env, info, c, 1)) { free(c); return NULL; }
  c->result = -ECANCELED;
  if (napi_create_string_utf8(env, "syscall", NAPI_AUTO_LENGTH, &name) == napi_ok && napi_create_promise(env, &c->deferred, &promise) == napi_ok
      && napi_create_async_work(env, NULL, name, perform, finish, c, &c->work) == napi_ok) {
    if (napi_queue_async_work(env, c->work) == napi_ok) return promise;
    napi_delete_async_work(env, c->work);
  }
  release(env, c); free(c); napi_throw_error(env, NULL, "no asynchronous work can be queued");
  return NULL;
}

/* ASKED: somebody waits for it; LEFT: he has gone, and wants to be told by the event. */
enum { IDLE, ASKED, LEFT, OVER, ASIDE_STACK = 64 * 1024 };
static struct { call c; int state, event, started; } beside = {.event = -1};

static long futex(int operation, int value, const struct timespec *most) { return syscall(SYS_futex, &beside.state, operation, value, most, NULL, 0); }

static void *stand_aside(void *unused) {
  (void)unused;
  for (;;) {
    int state = __atomic_load_n(&beside.state, __ATOMIC_ACQUIRE); uint64_t one = 1;
    if (state == IDLE || state == OVER) { futex(FUTEX_WAIT_PRIVATE, state, NULL); continue; }
    perform(NULL, &beside.c);
    if (__atomic_exchange_n(&beside.state, OVER, __ATOMIC_ACQ_REL) == ASKED) futex(FUTEX_WAKE_PRIVATE, 1, NULL);
    else while (write(beside.event, &one, sizeof one) < 0 && errno == EINTR);
  }
  return NULL;
}

/* Never ends. No handler of a signal runs there. */
static int start_aside(void) {
  pthread_attr_t small; pthread_t thread; sigset_t all, before; int failed;
  if (beside.started) return 1;
  if (pthread_attr_init(&small) != 0) return 0;
  pthread_attr_setstacksize(&small, ASIDE_STACK);
  pthread_attr_setdetachstate(&small, PTHREAD_CREATE_DETACHED);
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  failed = pthread_create(&thread, &small, stand_aside, NULL);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  pthread_attr_destroy(&small);
  return beside.started = !failed;
}

static napi_value take_aside(napi_env env) {
  long result = beside.c.result;
  beside.state = IDLE; release(env, &beside.c);
  return to_js(env, result);
}

/* Made when it is first needed, which it hardly ever is. */
static int has_event(void) { return beside.event >= 0 || (beside.event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) >= 0; }

static napi_value aside_event(napi_env env, napi_callback_info info) {
  (void)info;
  if (has_event()) return to_js(env, beside.event);
  napi_throw_error(env, NULL, "no descriptor for slow calls is to be had");
  return NULL;
}

static napi_value aside(napi_env env, napi_callback_info info) {
  size_t count = ARGS; napi_value args[ARGS]; bool buffer; struct timespec most = {0}; call c = {0};
  if (!start_aside() || __atomic_load_n(&beside.state, __ATOMIC_ACQUIRE) != IDLE) {
    napi_throw_error(env, NULL, "the thread for slow calls is not to be had");
    return NULL;
  }
  if (!read_arguments(env, info, &c, 0)) return NULL;
  most.tv_sec = c.value[0] / 1000; most.tv_nsec = c.value[0] % 1000 * 1000000;
  beside.c = c;
  memmove(beside.c.value, beside.c.value + 1, (ARGS - 1) * sizeof *c.value);
  __atomic_store_n(&beside.state, ASKED, __ATOMIC_RELEASE);
  futex(FUTEX_WAKE_PRIVATE, 1, NULL);
  for (;;) {
    int asked = ASKED, waited = futex(FUTEX_WAIT_PRIVATE, ASKED, &most) < 0 ? errno : 0;
    if (__atomic_load_n(&beside.state, __ATOMIC_ACQUIRE) == OVER) return take_aside(env);
    if (waited == ETIMEDOUT && has_event() && __atomic_compare_exchange_n(&beside.state, &asked, LEFT, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) break;
  }
  /* The call may use the buffers until it is over. */
  if (napi_get_cb_info(env, info, &count, args, NULL, NULL) == napi_ok)
    for (size_t i = 1; i < count && i < ARGS; i++)
      if (napi_is_buffer(env, args[i], &buffer) == napi_ok && buffer) napi_create_reference(env, args[i], 1, &beside.c.held[i]);
  return NULL;
}

static napi_value aside_over(napi_env env, napi_callback_info info) {
  (void)info;
  return __atomic_load_n(&beside.state, __ATOMIC_ACQUIRE) == OVER ? take_aside(env) : NULL;
}

static napi_value addr(napi_env env, napi_callback_info info) {
  size_t count = 1, size; napi_value arg, out; bool buffer; void *data;
  if (napi_get_cb_info(env, info, &count, &arg, NULL, NULL) == napi_ok && napi_is_buffer(env, arg, &buffer) == napi_ok && buffer
      && napi_get_buffer_info(env, arg, &data, &size) == napi_ok && napi_create_bigint_uint64(env, (uint64_t)data, &out) == napi_ok) return out;
  napi_throw_type_error(env, "ERR_INVALID_ARG_TYPE", "addr wants a Buffer");
  return NULL;
}

/* Shares the memory of its parent, thread-local storage included, so it makes plain system calls and nothing else. */
static int pause_for_ever(void *unused) {
  (void)unused;
  syscall(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
  for (;;) syscall(SYS_ppoll, NULL, 0, NULL, NULL, 0);
}

/* One stack: the caller ends each child before it makes the next one. All signals stay blocked in the child, so no handler runs there. */
static napi_value clone_paused(napi_env env, napi_callback_info info) {
  static char stack[16384] __attribute__((aligned(16)));
  sigset_t all, before; call c = {0}; long pid;
  if (!read_arguments(env, info, &c, 0)) return NULL;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pid = clone(pause_for_ever, stack + sizeof stack, (int)c.value[0] | CLONE_VM | SIGCHLD, NULL);
  if (pid < 0) pid = -errno;
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  release(env, &c);
  return to_js(env, pid);
}

/* The settings are 32-bit integers: these, then the descriptors the program gets as 0, 1, ... (-1: /dev/null), then the cgroup.procs files it joins. */
enum { ARGUMENTS, VARIABLES, OPEN_FILES, NEUTRAL_SCORE, SESSION, NAMESPACES, CONFINED, CAPABILITIES, DESCRIPTORS, CGROUPS, LISTS };
enum { MOST_DESCRIPTORS = 16, EXEC_STACK = 64 * 1024, CLOSE_RANGE_ON_EXEC = 4, MOST_CAPABILITIES = 64 };

typedef struct { const char *file; char **argv, **envp; const int *set; volatile int error; } program;

/* Runs in the memory of its parent, whose thread waits meanwhile: no allocation, and no signal until all handlers are gone. */
static int execute(void *data) {
  program *p = data; const int *set = p->set, *fds = set + LISTS, *joins = fds + set[DESCRIPTORS]; int high[MOST_DESCRIPTORS];
  struct sigaction usual = {.sa_handler = SIG_DFL}; struct rlimit limit; sigset_t none;
  for (int s = 1; s < NSIG; s++) sigaction(s, &usual, NULL);
  for (int i = 0; i < set[CGROUPS]; i++) if (write(joins[i], "0", 1) != 1) goto failed;
  if (set[NEUTRAL_SCORE]) {
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, "0", 1) != 1) goto failed;
    close(fd);
  }
  if (set[OPEN_FILES] >= 0 && getrlimit(RLIMIT_NOFILE, &limit) == 0 && (limit.rlim_cur = (rlim_t)set[OPEN_FILES]) <= limit.rlim_max
      && setrlimit(RLIMIT_NOFILE, &limit) < 0) goto failed;
  for (int i = 0; i < set[DESCRIPTORS]; i++) {
    int fd = fds[i] < 0 ? open("/dev/null", O_RDWR | O_CLOEXEC) : fds[i];
    if ((high[i] = fcntl(fd, F_DUPFD_CLOEXEC, MOST_DESCRIPTORS)) < 0) goto failed;
  }
  for (int i = 0; i < set[DESCRIPTORS]; i++) if (dup2(high[i], i) < 0) goto failed;
  if (syscall(SYS_close_range, set[DESCRIPTORS], ~0U, CLOSE_RANGE_ON_EXEC) < 0 && errno != ENOSYS) goto failed;
  if ((set[SESSION] ? setsid() : setpgid(0, 0)) < 0 || chdir("/") < 0) goto failed;
  for (int i = 0; set[CONFINED] && i < MOST_CAPABILITIES; i++) {
    int kept = i < 32 && (unsigned)set[CAPABILITIES] >> i & 1;
    if (!kept && prctl(PR_CAPBSET_DROP, i, 0, 0, 0) < 0 && errno != EINVAL) goto failed;
  }
  if (set[CONFINED] && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) goto failed;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  execve(p->file, p->argv, p->envp);
failed:
  p->error = errno;
  _exit(127);
}

/* The beginnings of `count` texts that lie one behind the other, and NULL. */
static char **texts(char *next, int count) {
  char **all = calloc((size_t)count + 1, sizeof *all);
  for (int i = 0; all && i < count; i++, next += strlen(next) + 1) all[i] = next;
  return all;
}

static napi_value spawn(napi_env env, napi_callback_info info) {
  call c = {0}; sigset_t all, before; program p = {0}; long pid = -ENOMEM; char *stack = malloc(EXEC_STACK);
  if (!read_arguments(env, info, &c, 0)) { free(stack); return NULL; }
  p.file = (const char *)c.value[0]; p.set = (const int *)c.value[3];
  p.argv = texts((char *)c.value[1], p.set[ARGUMENTS]); p.envp = texts((char *)c.value[2], p.set[VARIABLES]);
  if (stack && p.argv && p.envp && p.set[DESCRIPTORS] <= MOST_DESCRIPTORS) {
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pid = clone(execute, stack + EXEC_STACK, CLONE_VM | CLONE_VFORK | SIGCHLD | p.set[NAMESPACES], &p);
    if (pid < 0) pid = -errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (pid > 0 && p.error) { waitpid((pid_t)pid, NULL, 0); pid = -p.error; }
  }
  free(p.argv); free(p.envp); free(stack); release(env, &c);
  return to_js(env, pid);
}

/* In numbers.c. */
extern long read_numbers(void *files, long count, const char *names, const char *paths, double *out);

static napi_value numbers(napi_env env, napi_callback_info info) {
  call c = {0}; long news;
  if (!read_arguments(env, info, &c, 0)) return NULL;
  news = read_numbers((void *)c.value[0], c.value[1], (const char *)c.value[2], (const char *)c.value[3], (double *)c.value[4]);
  release(env, &c);
  return to_js(env, news);
}

NAPI_MODULE_INIT() {
  napi_property_descriptor all[] = {{"sys", 0, sys}, {"sysAsync", 0, sys_async}, {"addr", 0, addr}, {"aside", 0, aside}, {"asideEvent", 0, aside_event},
    {"asideOver", 0, aside_over}, {"clonePaused", 0, clone_paused}, {"spawn", 0, spawn}, {"numbers", 0, numbers}};
  return napi_define_properties(env, exports, sizeof all / sizeof *all, all) == napi_ok ? exports : NULL;
}
