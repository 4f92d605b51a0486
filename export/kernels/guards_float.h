/* With these a machine would not compute the bits that were verified. */
#if defined(__FAST_MATH__)
#error "compile this policy without -ffast-math"
#endif
#if defined(__FLT_EVAL_METHOD__) && __FLT_EVAL_METHOD__ != 0 && __FLT_EVAL_METHOD__ != 16
#error "this policy needs float arithmetic in single precision; on x86 give -msse2 -mfpmath=sse"
#endif
