package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestVerify(t *testing.T) {
	t.Parallel()
	db, args := drawn(t, 100)
	dir := filepath.Join(t.TempDir(), "out")
	args = append(args, "-out", dir)
	p := run(t, nil, append(args, "-verify")...)
	require.Equal(t, 1, p.code())
	require.Contains(t, p.stderr.String(), "read the checkpoint")
	require.NoDirExists(t, dir)

	succeeds(t, append(args, "-once", "-segment-bytes", "1000", "-batch", "10")...)
	p = succeeds(t, append(args, "-verify")...)
	prints(t, p, `1 to 100 +100 +100 .*`, `orders: EQUAL\. All 100 rows are the same\.`)
	require.Empty(t, p.stderr.String())

	// The last file is compared to its end, also after the cursor was adopted.
	succeeds(t, append(args, "-adopt")...)
	all := files(t, dir, ".jsonl")
	last, err := os.ReadFile(all[len(all)-1])
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(all[len(all)-1], last[:strings.LastIndex(string(last[:len(last)-1]), "\n")+1], 0o600))
	p = run(t, nil, append(args, "-verify")...)
	require.Equal(t, 4, p.code())
	prints(t, p, `missing: 1: 100`)
	require.NoError(t, os.WriteFile(all[len(all)-1], last, 0o600))
	succeeds(t, append(args, "-verify")...)

	db.MustExec(`UPDATE orders SET name = 'new' WHERE id = 20`)
	p = run(t, nil, append(args, "-verify")...)
	require.Equal(t, 5, p.code())
	prints(t, p, `changed: 1: 20`, `A changed row was updated after it was delivered, or its key was drawn again .*`, `orders: DIFFERENT\. No key is missing\..*`)

	name := files(t, dir, ".jsonl")[1]
	b, err := os.ReadFile(name)
	require.NoError(t, err)
	first, rest, _ := strings.Cut(string(b), "\n")
	_, rest, _ = strings.Cut(rest, "\n")
	require.NoError(t, os.WriteFile(name, []byte(first+"\n"+rest), 0o600))
	p = run(t, nil, append(args, "-verify")...)
	require.Equal(t, 4, p.code())
	prints(t, p, `missing: 1: 4\d`, `orders: ROWS ARE MISSING\. The table has 100 rows, the files have 99\.`)
	require.Empty(t, p.stderr.String())
}
