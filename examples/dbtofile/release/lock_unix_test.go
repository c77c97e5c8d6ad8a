//go:build linux || darwin

package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOnePublishAtATime(t *testing.T) {
	w := newWorkshop(t)
	w.publishes("-version", "1.0.0")
	unlock, err := lock(w.path("public"))
	require.NoError(t, err)
	w.fails("somebody else publishes", "-dir", w.path("public"), "-key", w.path("one.key"))
	require.NoError(t, unlock())
	w.publishes()
}
