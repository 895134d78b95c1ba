# Bytes of cache that a kernel may count on: L1 and L2 of one thread, L3 of all.
cdef Py_ssize_t l1_bytes, l2_bytes, l3_bytes
