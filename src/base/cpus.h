/* SPDX-License-Identifier: Apache-2.0
 * How many processors this process may use. */
#ifndef FTK_CPUS_H
#define FTK_CPUS_H

/* 1..FTK_MAX_THREADS: the processors of the process's affinity, or, where a control group allows
 * less time than that, so many as have that time, rounded up. */
int ftk_cpus(void);
/* What control groups allow, in processors; 0: no limit. root: "" or, for tests, a folder in
 * place of the file system's. Versions 1 and 2: the Linux kernel's admin-guide/cgroup-v2.rst
 * (cpu.max) and scheduler/sched-bwc.rst (cpu.cfs_quota_us). */
double ftk_cpus_quota(const char *root);

#endif
