// Package index is the signed list of releases that dbtofile-update reads and
// release writes: two files, index.json and index.json.minisig, beside the
// binaries they name.
//
// The signature is one of minisign (https://jedisct1.github.io/minisign/), so an
// index can be looked into and checked by hand:
//
//	minisign -Vm index.json -p /etc/dbtofile/keys/2026.pub
//
// All that counts is inside the signed file: which releases there are, the size
// and SHA-256 of each, a serial that tells a newer index from an older one, and
// until when it may be believed. Minisign's trusted comment is signed as well, but
// nothing is read from it. [Format] says what the file is, so that another file
// signed with the same key is not taken for an index.
package index

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"aead.dev/minisign"
	"golang.org/x/mod/semver"
)

// The names of the two files.
const (
	Name      = "index.json"
	Signature = Name + ".minisig"
)

// Format is what an index says it is. One that older programs would
// misunderstand gets another.
const Format = "dbtofile index 1"

// The most bytes that an index, its signature and a binary may have.
const (
	MaxIndex     = 1 << 20
	MaxSignature = 4 << 10
	MaxBinary    = 512 << 20
)

// MaxAhead is how far the serial of an index may be ahead of the time, by the clock of
// whoever reads it. One that is further ahead is not to be believed, nor remembered: a
// thief of a key could sign it so that all later ones are older.
const MaxAhead = 24 * time.Hour

// Index is the list of releases.
type Index struct {
	Format   string    `json:"format"`
	Serial   int64     `json:"serial"`  // of two indexes, the one with the greater serial is newer; in Unix seconds no time to come, see MaxAhead
	Expires  time.Time `json:"expires"` // not to be believed from then on
	Releases []Release `json:"releases"`
}

// Release is one binary.
type Release struct {
	Version string `json:"version"` // semantic, without a v: 1.2.3
	OS      string `json:"os"`      // as GOOS
	Arch    string `json:"arch"`    // as GOARCH
	File    string `json:"file"`    // its name, beside the index
	Size    int64  `json:"size"`    // in bytes
	SHA256  string `json:"sha256"`  // in lower hexadecimal digits
	// MinFrom is the oldest version that may be replaced by this one at once;
	// empty: any.
	MinFrom string `json:"min_from,omitempty"`
}

// Valid reports whether text is a version: 1.2.3 or 1.2.3-rc.1, and no shorter
// form or build number, so that a version is written in one way only. It is
// fit for the name of a file.
func Valid(text string) bool { v := "v" + text; return semver.IsValid(v) && semver.Canonical(v) == v }

// Compare returns -1, 0 or 1 if version a is older than, the same as or newer than b.
func Compare(a, b string) int { return semver.Compare("v"+a, "v"+b) }

var fileName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+-]*$`)

// Check returns an error if the index cannot be what its signer meant. It does not look
// at the time.
func (x Index) Check() error {
	switch {
	case x.Format != Format:
		return fmt.Errorf("index: its format is %q, want %q: update the updater", x.Format, Format)
	case x.Serial < 1:
		return fmt.Errorf("index: its serial is %d, want at least 1", x.Serial)
	case x.Expires.IsZero():
		return errors.New("index: it does not say when it expires")
	}
	type platform struct{ version, os, arch string }
	seen := map[platform]bool{}
	for _, r := range x.Releases {
		p := platform{r.Version, r.OS, r.Arch}
		digest, err := hex.DecodeString(r.SHA256)
		switch {
		case !Valid(r.Version):
			return fmt.Errorf("index: %q is no version such as 1.2.3", r.Version)
		case r.MinFrom != "" && !Valid(r.MinFrom):
			return fmt.Errorf("index: release %s: min_from: %q is no version", r.Version, r.MinFrom)
		case r.OS == "" || r.Arch == "":
			return fmt.Errorf("index: release %s: os or arch is missing", r.Version)
		case !fileName.MatchString(r.File):
			return fmt.Errorf("index: release %s: %q is no plain file name", r.Version, r.File)
		case r.Size < 1 || r.Size > MaxBinary:
			return fmt.Errorf("index: release %s: a size of %d bytes", r.Version, r.Size)
		case err != nil || len(digest) != sha256.Size || r.SHA256 != hex.EncodeToString(digest):
			return fmt.Errorf("index: release %s: %q is no SHA-256", r.Version, r.SHA256)
		case seen[p]:
			return fmt.Errorf("index: release %s is there twice for %s/%s", r.Version, r.OS, r.Arch)
		}
		seen[p] = true
	}
	return nil
}

// Sign returns the two files of an index. It signs none that would be refused.
func Sign(x Index, key minisign.PrivateKey) (file, signature []byte, err error) {
	if err := x.Check(); err != nil {
		return nil, nil, err
	}
	if file, err = json.MarshalIndent(x, "", "  "); err != nil {
		return nil, nil, err
	}
	file = append(file, '\n')
	if len(file) > MaxIndex {
		return nil, nil, fmt.Errorf("index: it has %d bytes, more than the %d that are read: withdraw old releases", len(file), MaxIndex)
	}
	comment := fmt.Sprintf("%s serial %d expires %s", Format, x.Serial, x.Expires.Format(time.RFC3339))
	// What is signed is the BLAKE2b hash, as minisign does: its older plain form
	// is to go away.
	reader := minisign.NewReader(bytes.NewReader(file))
	if _, err := io.Copy(io.Discard, reader); err != nil {
		return nil, nil, err
	}
	return file, reader.SignWithComments(key, comment, "signature of "+Name), nil
}

// Keys are trusted: a signature by any one of them is good.
type Keys []minisign.PublicKey

// ReadKeys reads the public keys of a directory, the files *.pub as minisign makes
// them. It is an error if there is none.
func ReadKeys(dir string) (Keys, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.pub"))
	if err != nil {
		return nil, fmt.Errorf("index: keys: %w", err)
	}
	var keys Keys
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("index: keys: %w", err)
		}
		var key minisign.PublicKey
		if err := key.UnmarshalText(text); err != nil {
			return nil, fmt.Errorf("index: %s is no public key of minisign: %w", name, err)
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("index: no key is trusted: there is no *.pub in %s", dir)
	}
	return keys, nil
}

// ErrSignature is wrapped by the error of an index that none of the trusted keys signed.
var ErrSignature = errors.New("not signed by a trusted key")

// Open returns the index in a file that one of the keys signed. Nothing of the
// file is looked at before. Whether it has expired or is older than another one is
// for the caller to see.
func (k Keys) Open(file, signature []byte) (Index, error) {
	var x Index
	if !k.signed(file, signature) {
		return x, fmt.Errorf("index: %s: %w", Name, ErrSignature)
	}
	if err := json.Unmarshal(file, &x); err != nil {
		return Index{}, fmt.Errorf("index: %s: %w", Name, err)
	}
	if err := x.Check(); err != nil {
		return Index{}, err
	}
	return x, nil
}

func (k Keys) signed(file, signature []byte) bool {
	for _, key := range k {
		if minisign.Verify(key, file, signature) {
			return true
		}
	}
	return false
}
