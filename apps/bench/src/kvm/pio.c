/* A guest in real mode that writes to a port for ever; prints nanoseconds per round trip. The C side of the suite. */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>

int main(int argc, char **argv)
{
	static const unsigned char code[] = {0xe6, 0x10, 0xeb, 0xfc};
	int rounds = argc > 1 ? atoi(argv[1]) : 10000;
	int kvm = open("/dev/kvm", O_RDWR);
	int vm = ioctl(kvm, KVM_CREATE_VM, 0);
	unsigned char *memory = mmap(NULL, 0x10000, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct kvm_userspace_memory_region region = {.memory_size = 0x10000, .userspace_addr = (unsigned long)memory};
	ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region);
	memcpy(memory + 0x1000, code, sizeof code);
	int vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
	struct kvm_run *run = mmap(NULL, ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	struct kvm_sregs sregs;
	ioctl(vcpu, KVM_GET_SREGS, &sregs);
	sregs.cs.base = sregs.cs.selector = 0;
	ioctl(vcpu, KVM_SET_SREGS, &sregs);
	struct kvm_regs regs = {.rip = 0x1000, .rflags = 2};
	if (ioctl(vcpu, KVM_SET_REGS, &regs) != 0) return 1;
	struct timespec from, to;
	for (int i = 0; i < 1000; i++) ioctl(vcpu, KVM_RUN, 0);
	clock_gettime(CLOCK_MONOTONIC, &from);
	for (int i = 0; i < rounds; i++) {
		ioctl(vcpu, KVM_RUN, 0);
		if (run->exit_reason != KVM_EXIT_IO) return 1;
	}
	clock_gettime(CLOCK_MONOTONIC, &to);
	printf("%f\n", ((to.tv_sec - from.tv_sec) * 1e9 + (to.tv_nsec - from.tv_nsec)) / rounds);
	return 0;
}
