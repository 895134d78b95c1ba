"""The threads that share the work of a prange: gcc's OpenMP calls, answered without its waits.

gcc turns a prange into a function and a call of GOMP_parallel. Its runtime, libgomp, lets a
waiting thread spin for milliseconds and starts a loop only when every thread is there: on a
machine with more to run than CPUs, that can be far slower than one thread. It also ends
the process where no thread can be started, and hangs in a child after fork. So the kernels are
linked with GOMP_parallel and the few other calls of a prange wrapped (setup.py) to those below.

A prange of n threads is a job of n parts, one call of its function each. The caller runs part 0
and then every part that nobody has taken yet; workers take parts as soon as they run. So nobody
waits for a thread that the system has not started, woken or got round to, but only for parts that
are being computed. Who waits, spins for some microseconds and then sleeps; on a crowded machine,
which shows in gaps in a thread's own time, it sleeps at once.

Which thread runs a part does not matter: nothing in a kernel waits for another part, since every
parallel region is one prange. Results therefore have the same bits as ever.

Longer than most: those who hand out parts, take them and wait for them share a table of jobs.
"""

cdef extern from * nogil:
    """
    #include <pthread.h>
    #include <signal.h>
    #include <time.h>

    #define LOAD(p) __atomic_load_n(p, __ATOMIC_SEQ_CST)
    #define STORE(p, v) __atomic_store_n(p, v, __ATOMIC_SEQ_CST)
    #define ADD(p, v) __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST)
    #define EXCHANGED(p, old, new) __sync_bool_compare_and_swap(p, old, new)
    #if defined(__x86_64__)
    #define RELAX() __builtin_ia32_pause()
    #else
    #define RELAX() __asm__ volatile("")
    #endif

    static inline long long nanoseconds(void) {
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        return t.tv_sec * 1000000000LL + t.tv_nsec;
    }

    /* What this thread runs: a part of so many (0: nothing), and its loop of schedule "dynamic". */
    typedef struct {
        int part, parts, emptied; long long *begun; long start, end, step, chunk;
    } Mine;
    static __thread Mine mine;
    """
    ctypedef struct pthread_t:
        pass
    ctypedef struct pthread_attr_t:
        pass
    ctypedef struct pthread_mutex_t:
        pass
    ctypedef struct pthread_cond_t:
        pass
    ctypedef struct sigset_t:
        pass
    ctypedef struct Mine:
        int part, parts, emptied
        long long* begun
        long start, end, step, chunk
    const int SIG_SETMASK
    int pthread_create(
        pthread_t*, const pthread_attr_t*, void* (*)(void*) noexcept nogil, void*
    )
    int pthread_attr_init(pthread_attr_t*)
    int pthread_attr_destroy(pthread_attr_t*)
    int pthread_attr_setstacksize(pthread_attr_t*, size_t)
    int pthread_attr_setdetachstate(pthread_attr_t*, int)
    const int PTHREAD_CREATE_DETACHED
    int pthread_sigmask(int, const sigset_t*, sigset_t*)
    int sigfillset(sigset_t*)
    int pthread_mutex_init(pthread_mutex_t*, void*)
    int pthread_mutex_lock(pthread_mutex_t*)
    int pthread_mutex_unlock(pthread_mutex_t*)
    int pthread_cond_init(pthread_cond_t*, void*)
    int pthread_cond_wait(pthread_cond_t*, pthread_mutex_t*)
    int pthread_cond_signal(pthread_cond_t*)
    int pthread_atfork(void (*)() noexcept nogil, void (*)() noexcept nogil,
                       void (*)() noexcept nogil)
    int load "LOAD"(int*)
    long long load_long "LOAD"(long long*)
    void store "STORE"(int*, int)
    void store_long "STORE"(long long*, long long)
    int add "ADD"(int*, int)
    long long add_long "ADD"(long long*, long long)
    bint exchanged "EXCHANGED"(int*, int, int)
    bint exchanged_long "EXCHANGED"(long long*, long long, long long)
    void relax "RELAX"()
    long long nanoseconds()
    Mine mine

cdef enum:
    MOST_PARTS = 1024           # of a job; as many as _threads.py allows
    JOBS = 32                   # at once, of as many Python threads; the next run alone
    LOOKS = 32                  # at what is waited for, between two looks at the clock
    IDLE_SPIN = 50_000          # ns a worker spins for the next job: a step's gaps are shorter
    DONE_SPIN = 200_000         # ns a caller spins for parts that others compute
    GAP = 300_000               # ns between two looks at the clock: the thread did not run
    CROWDED_FOR = 20_000_000    # ns after a gap in which nobody spins
    IN_VAIN = 4                 # wakings that brought no help, in a row, before some are left out
    MOST_LEFT_OUT = 5           # 2 to the power of it, at most
    RETRY_AFTER = 1_000_000_000   # ns after a thread could not be started
    STACK = 1 << 20             # bytes of a worker's stack

ctypedef void (*Function)(void*) noexcept nogil

cdef struct Job:
    Function function
    void* data
    int parts
    int busy                    # a caller has it
    long long number            # of the job whose parts may be taken; 0: none
    int left                    # parts that are not done, but for the caller's own
    int sleeping                # the caller is
    pthread_mutex_t lock
    pthread_cond_t done
    long long[MOST_PARTS] begun  # chunks of a part's share, of schedule "dynamic", handed out
    long long[MOST_PARTS] open  # the number of the job, where a part was not taken

cdef Job[JOBS] jobs
cdef long long last_number = 0
cdef int highest_job = 0        # none above it was ever used
cdef int generation = 0         # counts jobs: what idle workers look at
cdef int sleepers = 0
cdef int workers = 0
cdef long long crowded_until = 0
cdef int in_vain = 0            # wakings in a row that brought no help
cdef int left_out = 0           # jobs for which nobody will be woken
cdef long long no_thread_before = 0
cdef pthread_mutex_t idle_lock, starting
cdef pthread_cond_t work


# ---------------------------------------------------------------------- waiting
cdef inline bint spins_until_changed(int* word, int value, long long budget) noexcept nogil:
    """Spin for `budget` nanoseconds at most while a word has a value; return whether it changed."""
    cdef long long now = nanoseconds(), start = now, before
    cdef int _
    if now < load_long(&crowded_until):
        return load(word) != value
    while now - start < budget:
        for _ in range(LOOKS):
            if load(word) != value:
                return True
            relax()
        before = now
        now = nanoseconds()
        if now - before > GAP:
            store_long(&crowded_until, now + CROWDED_FOR)
            break
    return load(word) != value


cdef void wait_for_work(int seen) noexcept nogil:
    if spins_until_changed(&generation, seen, IDLE_SPIN):
        return
    pthread_mutex_lock(&idle_lock)
    add(&sleepers, 1)           # before the look at `generation`: see wake
    while load(&generation) == seen:
        pthread_cond_wait(&work, &idle_lock)
    add(&sleepers, -1)
    pthread_mutex_unlock(&idle_lock)


cdef bint wake(int count) noexcept nogil:
    """Wake workers, `generation` having changed: who does not sleep by now will see that.

    Return whether any were woken. It takes microseconds, and is in vain where work is done before
    they run: it is small, or other processes have the CPUs. Then most jobs are left out.
    """
    global left_out
    count = min(count, load(&sleepers))
    if count <= 0:
        return False
    if left_out > 0:
        left_out -= 1
        return False
    pthread_mutex_lock(&idle_lock)
    pthread_mutex_unlock(&idle_lock)
    while count > 0:
        pthread_cond_signal(&work)
        count -= 1
    return True


cdef void note_help(bint woken, bint helped) noexcept nogil:
    """Note whether anybody else ran a part of a job; threads may overwrite each other's notes."""
    global in_vain, left_out
    if helped:
        in_vain = left_out = 0
    elif woken:
        in_vain = min(in_vain + 1, IN_VAIN + MOST_LEFT_OUT)
        if in_vain >= IN_VAIN:
            left_out = 1 << (in_vain - IN_VAIN)


cdef void wait_for_parts(Job* job) noexcept nogil:
    cdef int left = load(&job.left)
    while left > 0 and spins_until_changed(&job.left, left, DONE_SPIN):
        left = load(&job.left)
    if left == 0:
        return
    pthread_mutex_lock(&job.lock)
    store(&job.sleeping, 1)
    while load(&job.left) > 0:
        pthread_cond_wait(&job.done, &job.lock)
    store(&job.sleeping, 0)
    pthread_mutex_unlock(&job.lock)


# ---------------------------------------------------------------------- parts
cdef inline void run_part(
    Function function, void* data, int part, int parts, long long* begun
) noexcept nogil:
    mine.part = part
    mine.parts = parts
    mine.begun = begun
    function(data)
    mine.part = mine.parts = 0


cdef inline bint take(Job* job, long long number, int part) noexcept nogil:
    """Take a part if nobody has; the job then stays as it is until the part is done."""
    return load_long(&job.open[part]) == number and exchanged_long(&job.open[part], number, 0)


cdef void help_with(Job* job, int worker) noexcept nogil:
    """Run parts of a job that nobody has taken, first that of the worker's own number.

    So a thread works on the same share of the data in one prange after another.
    """
    cdef long long number = load_long(&job.number)
    cdef int parts = load(&job.parts), i, part
    if number == 0:
        return
    for i in range(parts):
        part = (worker + i) % parts
        if part != 0 and take(job, number, part):
            run_part(job.function, job.data, part, parts, job.begun)
            if add(&job.left, -1) == 1 and load(&job.sleeping):
                pthread_mutex_lock(&job.lock)
                pthread_mutex_unlock(&job.lock)
                pthread_cond_signal(&job.done)


cdef void* serve(void* worker) noexcept nogil:
    """What a worker does, for good."""
    cdef int seen, i
    while True:
        seen = load(&generation)
        for i in range(load(&highest_job) + 1):
            help_with(&jobs[i], <int> <size_t> worker)
        if load(&generation) == seen:
            wait_for_work(seen)


cdef void start_workers(int wanted) noexcept nogil:
    """Start what is missing of the workers wanted; where the system has no more, go on without."""
    cdef pthread_t thread
    cdef pthread_attr_t attributes
    cdef sigset_t every, before
    if load(&workers) >= wanted or nanoseconds() < load_long(&no_thread_before):
        return
    pthread_mutex_lock(&starting)
    pthread_attr_init(&attributes)
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED)
    pthread_attr_setstacksize(&attributes, STACK)
    sigfillset(&every)          # signals are for threads that Python knows
    pthread_sigmask(SIG_SETMASK, &every, &before)
    while workers < wanted:
        if pthread_create(&thread, &attributes, serve, <void*> <size_t> (workers + 1)) != 0:
            store_long(&no_thread_before, nanoseconds() + RETRY_AFTER)
            break
        add(&workers, 1)
    pthread_sigmask(SIG_SETMASK, &before, NULL)
    pthread_attr_destroy(&attributes)
    pthread_mutex_unlock(&starting)


cdef Job* free_job() noexcept nogil:
    cdef int i, highest
    for i in range(JOBS):
        if load(&jobs[i].busy) == 0 and exchanged(&jobs[i].busy, 0, 1):
            highest = load(&highest_job)
            while highest < i and not exchanged(&highest_job, highest, i):
                highest = load(&highest_job)
            return &jobs[i]
    return NULL


# ---------------------------------------------------------------------- what gcc calls
cdef public void team_parallel "__wrap_GOMP_parallel"(
    void (*function)(void*) noexcept nogil, void* data, unsigned int threads, unsigned int flags
) noexcept nogil:
    """Call function(data) once for each thread; return when all calls have."""
    global mine
    cdef int parts = <int> min(threads, <unsigned int> MOST_PARTS), part
    cdef long long number, begun = 0
    cdef Job* job = NULL
    cdef Mine outer = mine
    cdef bint woken, helped = False
    if parts > 1 and outer.parts == 0:
        job = free_job()
    if job is NULL:             # a team of one: inside of another prange too
        run_part(function, data, 0, 1, &begun)
        mine = outer
        return
    start_workers(parts - 1)
    job.function = function
    job.data = data
    for part in range(parts):
        job.begun[part] = 0
    store(&job.parts, parts)
    store(&job.left, parts - 1)
    number = add_long(&last_number, 1) + 1
    for part in range(1, parts):
        store_long(&job.open[part], number)
    store_long(&job.number, number)
    add(&generation, 1)
    woken = wake(parts - 1)
    run_part(function, data, 0, parts, job.begun)
    for part in range(parts - 1, 0, -1):
        if take(job, number, part):
            run_part(function, data, part, parts, job.begun)
            add(&job.left, -1)
        else:
            helped = True
    note_help(woken, helped)
    wait_for_parts(job)
    store_long(&job.number, 0)
    store(&job.busy, 0)


cdef public int team_part "__wrap_omp_get_thread_num"() noexcept nogil:
    return mine.part


cdef public int team_parts "__wrap_omp_get_num_threads"() noexcept nogil:
    return max(mine.parts, 1)


cdef public int team_most "__wrap_omp_get_max_threads"() noexcept nogil:
    return 1                    # of a prange that asks for 0 threads: none does


cdef public void team_barrier "__wrap_GOMP_barrier"() noexcept nogil:
    """Nothing: in a prange it guards the value that the loop's variable had, which nobody reads."""


cdef public bint team_loop_start "__wrap_GOMP_loop_nonmonotonic_dynamic_start"(
    long start, long end, long step, long chunk, long* first, long* last
) noexcept nogil:
    """Begin a loop of schedule "dynamic", `step` above 0; the rest is team_loop_next."""
    mine.start = start
    mine.end = end
    mine.step = step
    mine.chunk = chunk
    mine.emptied = 0
    return team_loop_next(first, last)


cdef public bint team_loop_next "__wrap_GOMP_loop_nonmonotonic_dynamic_next"(
    long* first, long* last
) noexcept nogil:
    """Hand out the iterations from first to before last; return whether there were any left.

    A part begins with its own share of them, which follow one another, and goes on with those of
    the parts behind it: so a thread works on the same data as in the prange before, as it can.
    """
    cdef long size = mine.chunk * mine.step, chunks = (mine.end - mine.start + size - 1) // size
    cdef long chunk, part
    while mine.emptied < mine.parts:
        part = (mine.part + mine.emptied) % mine.parts
        chunk = part * chunks // mine.parts + <long> add_long(&mine.begun[part], 1)
        if chunk < (part + 1) * chunks // mine.parts:
            first[0] = mine.start + chunk * size
            last[0] = min(first[0] + size, mine.end)
            return True
        mine.emptied += 1
    return False


cdef public void team_loop_end "__wrap_GOMP_loop_end_nowait"() noexcept nogil:
    """Nothing is left to do at the end of a loop."""


# ---------------------------------------------------------------------- the process
cdef void forget_workers() noexcept nogil:
    """In a child after fork: of all threads, only the one that forked is there."""
    global generation, sleepers, workers, highest_job
    cdef int i
    make_locks()
    for i in range(JOBS):
        jobs[i].busy = 0
        jobs[i].number = 0
    highest_job = sleepers = workers = 0


cdef void make_locks() noexcept nogil:
    cdef int i
    pthread_mutex_init(&idle_lock, NULL)
    pthread_mutex_init(&starting, NULL)
    pthread_cond_init(&work, NULL)
    for i in range(JOBS):
        pthread_mutex_init(&jobs[i].lock, NULL)
        pthread_cond_init(&jobs[i].done, NULL)


make_locks()
pthread_atfork(NULL, NULL, forget_workers)


def num_workers():
    """Return how many threads were started: one less than the most that a prange asked for."""
    return workers
