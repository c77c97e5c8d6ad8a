//go:build linux

package systemd_test

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// takes reports whether one of so many takes place in this run. They take turns: UPDATE_TURN is a number, 0 by default,
// and in .ci/run each commit has the next one. With UPDATE_TURN=all, all take place, which takes a quarter of an hour.
func takes(i, of int) bool {
	turn := cmp.Or(os.Getenv("UPDATE_TURN"), "0")
	if turn == "all" {
		return true
	}
	n, err := strconv.Atoi(turn)
	if err != nil {
		panic("UPDATE_TURN is neither a number nor all: " + turn)
	}
	return n%of == i%of
}

// inTurn returns those of the faults that take place in this run.
func inTurn(faults ...release) (now []release) {
	for i, fault := range faults {
		if takes(i, len(faults)) {
			now = append(now, fault)
		}
	}
	return now
}

// step is a command of an upgrade, to be killed instead, and the part of the upgrade that it belongs to.
type step struct {
	n    int
	part string
}

// steps cuts the commands of an upgrade into parts, and returns those of each part that take place in this run: one at
// least.
func steps(t *testing.T, commands []string, part func(before []string) string) (now []step) {
	parts := map[string][]int{}
	for i := range commands {
		name := part(commands[:i+1])
		parts[name] = append(parts[name], i+1)
	}
	for name, all := range parts {
		for i, n := range all {
			if takes(i, len(all)) {
				now = append(now, step{n, name})
			}
		}
	}
	slices.SortFunc(now, func(a, b step) int { return cmp.Compare(a.n, b.n) })
	t.Logf("of %d commands: %v", len(commands), now)
	require.GreaterOrEqual(t, len(parts), 4)
	return now
}

// killed kills an upgrade at its steps, and requires that the run that systemd starts then finishes it.
func killed(t *testing.T, r releases) {
	s := newSite(t, r)
	s.arm()
	upgrades := 0
	upgrade := func(kill int) []string {
		upgrades++
		next := version(upgrades)
		s.publish(release{version: next})
		said, commands := s.killAt(kill)
		require.Contains(t, said, "upgraded from")
		require.Equal(t, "0", s.Show(updater, "ExecMainStatus"), said)
		s.runs(next)
		s.tidy(next)
		s.remove(debName(next))
		require.Equal(t, strconv.Itoa(upgrades), s.metric("deploys_total"))
		return commands
	}
	for _, step := range steps(t, upgrade(1000), func(before []string) string {
		text := strings.Join(before, "\n")
		switch {
		case strings.HasPrefix(before[len(before)-1], "systemctl"):
			return "restart"
		case strings.Contains(text, "\nsystemctl reset-failed"):
			return "record"
		case strings.Contains(text, "--reinstall"):
			return "install"
		}
		return "prepare"
	}) {
		t.Log(step, upgrade(step.n)[step.n-1])
	}
	s.noneLost()
}

// killedRollback kills an upgrade to a version that crashes.
func killedRollback(t *testing.T, r releases) {
	s := newSite(t, r)
	s.arm()
	rollbacks := 0
	rollback := func(kill int) []string {
		rollbacks++
		next := version(rollbacks)
		s.publish(release{version: next, wrapper: exits})
		said, commands := s.killAt(kill)
		require.Contains(t, said, "rolling back")
		if !strings.Contains(said, "is held") { // it was killed after all was recorded
			require.Equal(t, "4", s.Show(updater, "ExecMainStatus"), said)
		}
		s.runs(first)
		s.tidy(first, "held")
		s.remove(debName(next))
		require.Equal(t, strconv.Itoa(rollbacks), s.metric("rollbacks_total"))
		return commands
	}
	for _, step := range steps(t, rollback(1000), func(before []string) string {
		return fmt.Sprintf("%d installations", strings.Count(strings.Join(before, "\n"), "--reinstall"))
	}) {
		if step.part != "0 installations" { // which is as in killed
			t.Log(step, rollback(step.n)[step.n-1])
		}
	}
	s.noneLost()
}

// killedAgain has a version whose installation kills whatever installs it.
func killedAgain(t *testing.T, r releases) {
	s := newSite(t, r)
	s.publish(release{version: version(1), postinst: "systemctl kill --signal=KILL dbtofile-update; sleep infinity"})
	before := s.lines()
	_, _ = s.Run(t.Context(), "systemctl", "start", "dbtofile-update")
	s.Eventually("the upgrade ends", s.idle)
	s.ended(before, 4, "rolling back")
	require.Equal(t, 3, strings.Count(s.said(before), "an earlier run was interrupted"), s.said(before))
	s.runs(first)
	s.update(0, "is held")
	s.noneLost()
}

// heldByUser has a user hold the package while the new version is on trial.
func heldByUser(t *testing.T, r releases) {
	s := newSite(t, r)
	s.publish(release{version: version(1), wrapper: waits})
	before := s.lines()
	s.Must("systemctl", "start", "--no-block", updater)
	s.Eventually("it is installed", func() bool { return s.installed() == "ii  "+version(1) })
	s.Must("apt-mark", "hold", "dbtofile")
	s.Must("touch", "/run/exit")
	s.Eventually("the upgrade ends", s.idle)
	s.ended(before, 3, "on hold by apt-mark")
	s.update(3, "on hold by apt-mark in the upgrade from "+first+" to "+version(1)+": installed "+version(1))
	require.Equal(t, "hi  "+version(1), s.installed())
	s.Must("apt-mark", "unhold", "dbtofile")
	s.update(4, "rolling back to "+first)
	s.runs(first)
	s.noneLost()
}
