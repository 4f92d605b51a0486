#if (-1 >> 1) != -1
#error "this policy shifts negative numbers: it needs a compiler that keeps their sign"
#endif
