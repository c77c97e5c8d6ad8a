# Boots a systemd in its own namespaces, and ends it when standard input ends.
# The test process holds the other end, so the lab ends with the test process.
#
#	bash -c "$(cat lab.sh)" lab DIR SYSTEMD
#
# DIR/shared is /opt/lab inside. DIR/pid contains the lab's first process, once
# it runs. Everything else written inside is in memory.
set -u
dir=$1 systemd=$2 asked=false

# On a machine with both hierarchies of cgroups, systemd uses the second.
tree=/sys/fs/cgroup
[ -d $tree/unified ] && tree=$tree/unified
cgroup=$tree/${dir##*/}

inside() {
	set -e
	root=$dir/view/root
	mount --make-rprivate /
	# The upper layer must not itself be on an overlay, as a container's root is.
	mount -t tmpfs -o size=4g tmpfs "$dir/view"
	mkdir "$dir/view/upper" "$dir/view/work" "$root"
	mount -t overlay overlay -o lowerdir=/,upperdir="$dir/view/upper",workdir="$dir/view/work" "$root"

	read -r pid _ </proc/self/stat # as seen from outside, since this is still the outer /proc
	echo systemdlab >/proc/sys/kernel/hostname
	echo systemdlab >"$root/etc/hostname"
	mount -t proc proc "$root/proc"
	# These belong to the machine, not to the lab.
	mount --bind "$root/proc/sys" "$root/proc/sys"
	mount -o remount,bind,ro "$root/proc/sys"
	[ ! -e "$root/proc/sysrq-trigger" ] || mount --bind /dev/null "$root/proc/sysrq-trigger"
	mount -t sysfs -o ro sysfs "$root/sys"
	mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"

	mount -t tmpfs -o mode=755 tmpfs "$root/dev"
	mkdir "$root/dev/pts" "$root/dev/shm"
	for name in null zero full random urandom tty; do
		: >"$root/dev/$name"
		mount --bind "/dev/$name" "$root/dev/$name"
	done
	: >"$root/dev/console"
	mount --bind /dev/null "$root/dev/console"
	mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
	mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
	ln -s pts/ptmx "$root/dev/ptmx"
	ln -s /proc/self/fd "$root/dev/fd"
	ln -s /proc/self/fd/0 "$root/dev/stdin"
	ln -s /proc/self/fd/1 "$root/dev/stdout"
	ln -s /proc/self/fd/2 "$root/dev/stderr"

	mkdir -p "$root/opt/lab"
	mount --bind "$dir/shared" "$root/opt/lab"
	mount -t tmpfs -o mode=755 tmpfs "$root/run"
	mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"

	# No service of this machine starts, and nothing that manages hardware.
	rm -rf "$root/etc/systemd/system"
	mkdir -p "$root/etc/systemd/system"
	for unit in getty.target console-getty.service systemd-logind.service systemd-networkd.service \
		systemd-resolved.service systemd-timesyncd.service systemd-udevd.service systemd-udev-trigger.service \
		apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer man-db.timer; do
		ln -s /dev/null "$root/etc/systemd/system/$unit"
	done
	ln -s /lib/systemd/system/multi-user.target "$root/etc/systemd/system/default.target"
	: >"$root/etc/fstab"
	: >"$root/etc/machine-id"
	rm -f "$root/var/lib/dbus/machine-id"
	rm -f "$root/usr/sbin/policy-rc.d" # with it, container images forbid packages to start services

	mkdir "$root/outside"
	cd "$root"
	pivot_root . outside
	echo "$pid" >"/outside$dir/pid"
	umount -l /outside
	# As systemd does outside of containers. Credentials need it.
	mount --make-rshared /
	# It is root on this machine's kernel: it must not touch the clock, the modules and the audit.
	exec env -i container=systemdlab PATH=/usr/sbin:/usr/bin:/sbin:/bin \
		setpriv --bounding-set=-sys_time,-sys_module,-sys_rawio,-audit_read,-audit_control \
		"$systemd" --system --log-target=journal-or-kmsg --show-status=no
}

start() {
	echo "$BASHPID" >"$cgroup/cgroup.procs" || exit 1
	export dir systemd
	export -f inside
	exec setpriv --pdeathsig KILL \
		unshare --mount --pid --uts --ipc --net --cgroup --fork --kill-child bash -c inside
}

mkdir "$cgroup" || exit 1
start </dev/null &
outer=$!

while kill -0 "$outer" 2>/dev/null; do # it ends early if it cannot boot
	read -r -t 0.2 _ # returns 1 at the end of the input, and more than 128 after the time
	[ $? -gt 128 ] || { asked=true; break; }
done

# Killing the first process ends all of them; unshare, its parent, then ends as well.
if kill -0 "$outer" 2>/dev/null; then
	kill -KILL "$(cat "$dir/pid" 2>/dev/null || echo "$outer")" 2>/dev/null
fi
wait "$outer" 2>/dev/null
for _ in $(seq 200); do # the kernel takes a moment to end them
	find "$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null
	[ -d "$cgroup" ] || break
	sleep 0.05
done
rm -rf "$dir"
[ ! -d "$cgroup" ] && [ $asked = true ]
