/* Runs the policy's known answers on this machine: exit code 0 when all are met. */
#include "policy.h"

#include <stdio.h>

int main(void) {
    const int failed = policy_self_test();
    if (failed != 0) {
        fprintf(stderr, "policy %s fails at known answer %d\n", POLICY_DIGEST_HEX, failed - 1);
        return 1;
    }
    printf("policy %s gives its %d known answers\n", POLICY_DIGEST_HEX, POLICY_KNOWN_ANSWERS);
    return 0;
}
