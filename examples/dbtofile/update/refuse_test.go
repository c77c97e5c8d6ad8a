package main

import (
	"context"
	"io"
	"math"
	"strings"
	"testing"
	"time"

	"aead.dev/minisign"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/examples/dbtofile/update/index"
)

// refuses requires that a run ends with an error, changes no file but its state, and
// restarts nothing.
func (w *world) refuses(want string) {
	w.t.Helper()
	starts := w.units[theUnit].invocation
	require.ErrorContains(w.t, w.run(), want)
	require.Equal(w.t, []string{"1.0.0"}, w.installed())
	require.Equal(w.t, starts, w.units[theUnit].invocation)
	require.Equal(w.t, "1.0.0", w.current())
	require.EqualValues(w.t, 1, w.memory().Failures)
	w.tidy()
}

func TestRefused(t *testing.T) {
	for name, test := range map[string]struct {
		want string
		do   func(w *world)
	}{
		"tampered binary": {"it has not the SHA-256", func(w *world) { w.files["1.1.0"][0]++ }},
		"truncated":       {"not as long as the index says", func(w *world) { w.files["1.1.0"] = w.files["1.1.0"][1:] }},
		"too long":        {"not as long as the index says", func(w *world) { w.files["1.1.0"] = append(w.files["1.1.0"], 'x') }},
		"no binary":       {"does not exist", func(w *world) { delete(w.files, "1.1.0") }},
		"tampered index":  {"not signed by a trusted key", func(w *world) { w.files[index.Name] = append(w.files[index.Name], ' ') }},
		"tampered signature": {"not signed by a trusted key", func(w *world) {
			w.files[index.Signature] = []byte(strings.ToLower(string(w.files[index.Signature])))
		}},
		"no signature":      {"does not exist", func(w *world) { delete(w.files, index.Signature) }},
		"no index":          {"does not exist", func(w *world) { delete(w.files, index.Name) }},
		"endless index":     {"longer than", func(w *world) { w.files[index.Name] = make([]byte, index.MaxIndex+1) }},
		"endless signature": {"longer than", func(w *world) { w.files[index.Signature] = make([]byte, index.MaxSignature+1) }},
		"another key": {"not signed by a trusted key", func(w *world) {
			trusted := w.key
			_, w.key, _ = minisign.GenerateKey(nil)
			w.publish()
			w.key = trusted
		}},
		"expired":            {"the index expired at", func(w *world) { w.index.Expires = time.Now(); w.publish() }},
		"says other version": {"it says that it is version 1.2.0", func(w *world) { w.replace("1.1.0", binary("1.2.0")) }},
	} {
		t.Run(name, func(t *testing.T) {
			within(t, func(t *testing.T, w *world) {
				w.release("1.1.0", good, "")
				test.do(w)
				w.refuses(test.want)
			})
		})
	}
}

// replace gives a release other bytes.
func (w *world) replace(version string, b []byte) {
	for i, r := range w.index.Releases {
		if r.Version == version {
			w.files[version], w.trusted[hash(b)] = b, true
			w.index.Releases[i].Size, w.index.Releases[i].SHA256 = int64(len(b)), hash(b)
		}
	}
	w.publish()
}

func TestOldIndexesAreRefused(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		w.release("1.1.0", good, "")
		old, oldSignature := w.files[index.Name], w.files[index.Signature]
		w.release("1.2.0", good, "")
		require.NoError(t, w.run())
		w.runs("1.2.0")

		w.files[index.Name], w.files[index.Signature] = old, oldSignature
		require.ErrorContains(t, w.run(), "older than one seen before")

		w.index.Serial--
		w.index.Expires = w.index.Expires.Add(time.Hour)
		w.publish()
		require.ErrorContains(t, w.run(), "two indexes with serial")
		w.publish()
		require.NoError(t, w.run())
	})
}

// What a stolen key signs must not keep the machines from what the owner signs later.
func TestASerialOfATimeToComeIsRefused(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		w.release("1.1.0", good, "")
		serial := w.index.Serial
		w.index.Serial = math.MaxInt64 - 1
		w.publish()
		w.refuses("of a time to come")
		w.index.Serial = serial
		w.publish()
		require.NoError(t, w.run())
		w.runs("1.1.0")
	})
}

func TestTheSerialIsRememberedBeforeTheReleaseIsLookedAt(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		w.release("1.1.0", good, "")
		old, oldSignature := w.files[index.Name], w.files[index.Signature]
		w.release("1.2.0", good, "")
		w.kill = func(_ int, step string) bool { return step == "download" }
		require.ErrorIs(t, w.run(), errKilled)
		w.kill = nil
		w.files[index.Name], w.files[index.Signature] = old, oldSignature
		require.ErrorContains(t, w.run(), "older than one seen before")
	})
}

func TestAnIndexThatIsBeingReplacedIsReadAgain(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		w.release("1.1.0", good, "")
		late := &late{w, w.files[index.Signature]}
		w.files[index.Signature] = []byte("of the last one")
		u := w.updater()
		u.from, u.step = late, nil
		require.NoError(t, u.update(t.Context()))
		w.runs("1.1.0")
	})
}

// late is a source whose signature is replaced after it was read once.
type late struct {
	*world
	signature []byte
}

func (l *late) open(ctx context.Context, name string) (io.ReadCloser, error) {
	f, err := l.world.open(ctx, name)
	if name == index.Signature {
		l.files[name] = l.signature
	}
	return f, err
}

func TestEitherOfTwoKeysIsTrusted(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		_, second, err := minisign.GenerateKey(nil)
		require.NoError(t, err)
		both := index.Keys{w.key.Public().(minisign.PublicKey), second.Public().(minisign.PublicKey)}
		for i, key := range []minisign.PrivateKey{w.key, second} {
			w.key = key
			w.release([]string{"1.1.0", "1.2.0"}[i], good, "")
			u := w.updater()
			u.trusted, u.step = both, nil
			require.NoError(t, u.update(t.Context()))
			w.runs([]string{"1.1.0", "1.2.0"}[i])
		}
	})
}

func TestNeverOlder(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		w.install("1.1.0")
		w.release("0.9.0", good, "")
		w.release("1.1.0-rc.1", good, "")
		for name := range w.units {
			w.start(name)
		}
		require.NoError(t, w.run())
		w.runs("1.1.0")
	})
}

func TestStepByStep(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		w.release("1.3.0", good, "1.2.0")
		w.release("1.2.0", good, "1.1.0")
		w.release("1.1.0", good, "1.0.0")
		w.release("2.0.0", good, "1.9.0")
		for _, version := range []string{"1.1.0", "1.2.0", "1.3.0", "1.3.0"} {
			require.NoError(t, w.run())
			w.runs(version)
		}
	})
}

func TestOtherPlatformsAreNotLookedAt(t *testing.T) {
	within(t, func(t *testing.T, w *world) {
		w.release("1.1.0", good, "")
		w.index.Releases[0].Arch = "arm64"
		w.publish()
		require.NoError(t, w.run())
		w.runs("1.0.0")
	})
}
