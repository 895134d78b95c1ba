# The types of vector.h as Cython sees them. To Cython vec is float; the C compiler knows
# better. So: whole-vector expressions only, never a subscript into a vec.
cdef extern from "vector.h" nogil:
    ctypedef float real
    # Memory that nothing else in the function points to: else every short row would begin with a
    # dozen comparisons of addresses, or not be vectorised at all.
    ctypedef real* real_out
    ctypedef float vec
    ctypedef int mask
    const int LANES
    const int VECTORS
    const int SHUFFLES
    const int COMPARES_64
    vec load(const real* p)
    void store(real* p, vec v)
    void stream(real* p, vec v)
    void prefetch(const real* p)
    void prefetch_to_write(const real* p)
    int lowest_bit(unsigned long long bits)
    unsigned long long bytes_equal(const unsigned char* p, unsigned char b)
    void drain()
    void store_as_bytes(unsigned char* p, vec v)
    vec load_bytes(const unsigned char* p)
    vec splat(real x)
    vec where(mask m, vec a, vec b)
    mask indices(vec v)
    vec shuffle(vec v, mask source)
    mask equal(vec a, vec b)
    bint any_nonzero(vec v)
    mask greater(vec a, vec b)
    mask beats(vec v, vec best)
