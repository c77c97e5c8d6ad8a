package index_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"aead.dev/minisign"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/examples/dbtofile/update/index"
)

func newKey(t *testing.T) (minisign.PrivateKey, index.Keys) {
	public, private, err := minisign.GenerateKey(nil)
	require.NoError(t, err)
	return private, index.Keys{public}
}

func fine() index.Index {
	return index.Index{
		Format: index.Format, Serial: 3, Expires: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC),
		Releases: []index.Release{
			{Version: "1.2.3", OS: "linux", Arch: "amd64", File: "dbtofile-1.2.3", Size: 7, SHA256: strings.Repeat("0f", 32), MinFrom: "1.0.0"},
			{Version: "1.2.3", OS: "linux", Arch: "arm64", File: "dbtofile-1.2.3-arm", Size: 7, SHA256: strings.Repeat("0f", 32)},
		},
	}
}

func TestSignAndOpen(t *testing.T) {
	key, keys := newKey(t)
	file, signature, err := index.Sign(fine(), key)
	require.NoError(t, err)
	opened, err := keys.Open(file, signature)
	require.NoError(t, err)
	require.Equal(t, fine(), opened)
}

// TestNoBitMayChange tampers with every byte of both files.
func TestNoBitMayChange(t *testing.T) {
	key, keys := newKey(t)
	file, signature, err := index.Sign(fine(), key)
	require.NoError(t, err)
	for i := range file {
		changed := bytes.Clone(file)
		changed[i] ^= 1
		_, err := keys.Open(changed, signature)
		require.ErrorIs(t, err, index.ErrSignature, "byte %d", i)
	}
	first := bytes.IndexByte(signature, '\n') // what is before is minisign's untrusted comment
	for i := first; i < len(signature); i++ {
		changed := bytes.Clone(signature)
		changed[i] ^= 1
		if _, err := keys.Open(file, changed); err == nil {
			// Base64 has bits that mean nothing, and newlines; the signature is the same.
			var a, b minisign.Signature
			require.NoError(t, a.UnmarshalText(signature))
			require.NoError(t, b.UnmarshalText(changed))
			require.True(t, a.Equal(b), "byte %d", i)
		}
	}
	for n := range len(signature) - 1 {
		_, err := keys.Open(file, signature[:n])
		require.Error(t, err, "%d bytes", n)
	}
}

func TestOnlyTrustedKeys(t *testing.T) {
	key, keys := newKey(t)
	_, others := newKey(t)
	file, signature, err := index.Sign(fine(), key)
	require.NoError(t, err)
	_, err = others.Open(file, signature)
	require.ErrorIs(t, err, index.ErrSignature)
	_, err = append(others, keys...).Open(file, signature)
	require.NoError(t, err, "either key is enough")
	_, err = index.Keys(nil).Open(file, signature)
	require.ErrorIs(t, err, index.ErrSignature)
}

func TestASignedFileThatIsNoIndex(t *testing.T) {
	key, keys := newKey(t)
	for text, want := range map[string]string{
		"hello":                            "invalid character",
		"{}":                               `its format is ""`,
		`{"format":"dbtofile index 1"} {}`: "invalid character",
	} {
		_, err := keys.Open([]byte(text), minisign.Sign(key, []byte(text)))
		require.ErrorContains(t, err, want)
	}
}

func TestCheck(t *testing.T) {
	require.NoError(t, fine().Check())
	for want, spoil := range map[string]func(*index.Index){
		"its format is":       func(x *index.Index) { x.Format = "dbtofile index 2" },
		"its serial is 0":     func(x *index.Index) { x.Serial = 0 },
		"when it expires":     func(x *index.Index) { x.Expires = time.Time{} },
		"no version such":     func(x *index.Index) { x.Releases[0].Version = "1.2" },
		"min_from":            func(x *index.Index) { x.Releases[0].MinFrom = "v1" },
		"os or arch":          func(x *index.Index) { x.Releases[0].Arch = "" },
		"no plain file name":  func(x *index.Index) { x.Releases[0].File = "../dbtofile" },
		"a size of 0 bytes":   func(x *index.Index) { x.Releases[0].Size = 0 },
		"a size of 536870913": func(x *index.Index) { x.Releases[0].Size = index.MaxBinary + 1 },
		"no SHA-256":          func(x *index.Index) { x.Releases[0].SHA256 = "0f" },
		"is no SHA-256":       func(x *index.Index) { x.Releases[0].SHA256 = strings.Repeat("0F", 32) }, // as the updater does not write it
		"is there twice":      func(x *index.Index) { x.Releases[0].Arch = "arm64" },
	} {
		x := fine()
		spoil(&x)
		require.ErrorContains(t, x.Check(), want)
		key, _ := newKey(t)
		_, _, err := index.Sign(x, key)
		require.ErrorContains(t, err, want, "it is not signed either")
	}
}

func TestAnIndexTooLongToBeReadIsNotSigned(t *testing.T) {
	x := fine()
	for i := range 5000 {
		r := x.Releases[0]
		r.Version = fmt.Sprintf("2.%d.0", i)
		x.Releases = append(x.Releases, r)
	}
	key, _ := newKey(t)
	_, _, err := index.Sign(x, key)
	require.ErrorContains(t, err, "withdraw")
}

func TestVersions(t *testing.T) {
	for _, text := range []string{"1.2.3", "0.0.0", "1.2.3-rc.1", "10.20.30"} {
		assert.True(t, index.Valid(text), text)
	}
	for _, text := range []string{"", "v1.2.3", "1.2", "1", "1.2.3+build", "01.2.3", "1.2.3/..", "..", "1.2.3 "} {
		assert.False(t, index.Valid(text), text)
	}
	assert.Equal(t, -1, index.Compare("1.9.0", "1.10.0"))
	assert.Equal(t, -1, index.Compare("1.0.0-rc.1", "1.0.0"))
	assert.Equal(t, 0, index.Compare("1.0.0", "1.0.0"))
}

func TestReadKeys(t *testing.T) {
	dir := t.TempDir()
	_, err := index.ReadKeys(dir)
	require.ErrorContains(t, err, "no key is trusted")
	_, keys := newKey(t)
	text, err := keys[0].MarshalText()
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "2026.pub"), text, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "README"), []byte("hello"), 0o600))
	read, err := index.ReadKeys(dir)
	require.NoError(t, err)
	require.Equal(t, keys[0].ID(), read[0].ID())
	require.NoError(t, os.WriteFile(filepath.Join(dir, "2027.pub"), []byte("hello"), 0o600))
	_, err = index.ReadKeys(dir)
	require.ErrorContains(t, err, "2027.pub is no public key")
}
