#!/usr/bin/env bash
# Start a Slurm cluster of two nodes in new namespaces, run a command in it, and end everything.
#   unshare --net --mount --pid --uts --fork --kill-child --mount-proc bash slurm_cluster.sh DIR COMMAND…
# Both slurmd run on this machine, on two ports. Their names resolve to an address of a veth pair: names need an interface
# besides lo. The namespaces of pids and mounts end with this script, and so do the daemons.
set -eu
dir=$1
shift
mount --make-rprivate /
ip link set lo up
ip link add eth0 type veth peer name eth1
ip addr add 10.9.0.1/24 dev eth0
ip link set eth0 up
ip link set eth1 up
printf '127.0.0.1 localhost\n10.9.0.1 n1 n2 control\n' >"$dir/hosts"
mount --bind "$dir/hosts" /etc/hosts
hostname control
mkdir -p "$dir/state" "$dir/n1" "$dir/n2"
cat >"$dir/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=control(10.9.0.1)
AuthType=auth/none
CredType=cred/none
SlurmUser=root
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/%n
SlurmctldPidFile=$dir/state/slurmctld.pid
SlurmdPidFile=$dir/%n/slurmd.pid
SlurmctldLogFile=$dir/slurmctld.log
SlurmdLogFile=$dir/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
NodeName=n1 NodeHostname=control NodeAddr=10.9.0.1 Port=6901 CPUs=2
NodeName=n2 NodeHostname=control NodeAddr=10.9.0.1 Port=6902 CPUs=2
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
export SLURM_CONF="$dir/slurm.conf"
slurmctld 2>>"$dir/slurmctld.log"
slurmd -N n1
slurmd -N n2
for _ in $(seq 300); do
  [ "$(sinfo -h -o %T 2>/dev/null | sort -u)" = idle ] && break
  sleep 0.1
done
"$@"
