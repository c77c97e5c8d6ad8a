package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func from(t *testing.T, where string) source {
	s, err := newSource(config{source: where, stall: time.Minute, userAgent: "dbtofile-update/test"})
	require.NoError(t, err)
	return s
}

func TestDirectory(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a file"), []byte("12345"), 0o600))
	for _, where := range []string{dir, "file:" + filepath.ToSlash(dir), "file://" + filepath.ToSlash(dir)} {
		if filepath.Separator == '\\' && strings.HasPrefix(where, "file:") {
			continue // a path of Windows is no path of a URL
		}
		content, err := read(t.Context(), from(t, where), "a file", 5)
		require.NoError(t, err, where)
		assert.Equal(t, "12345", string(content))
	}
	_, err := read(t.Context(), from(t, dir), "a file", 4)
	require.ErrorContains(t, err, "a file is longer than 4 bytes")
	_, err = read(t.Context(), from(t, dir), "none", 4)
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = read(t.Context(), from(t, filepath.Dir(dir)), filepath.Base(dir), 4)
	require.ErrorContains(t, err, "no regular file")
}

func TestOtherSchemesAreNoSource(t *testing.T) {
	for _, where := range []string{"ftp://example.org/", "https://", "file://host/path"} {
		_, err := newSource(config{source: where})
		require.ErrorContains(t, err, "want an https or http URL, or a directory", where)
	}
}

func TestWeb(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/dir/agent":
			fmt.Fprint(w, r.UserAgent())
		case "/dir/endless":
			for r.Context().Err() == nil {
				_, _ = w.Write(make([]byte, 1<<10))
			}
		case "/dir/short":
			w.Header().Set("Content-Length", "100")
			fmt.Fprint(w, "short")
		case "/dir/round":
			http.Redirect(w, r, "/dir/round", http.StatusFound)
		case "/dir/moved":
			http.Redirect(w, r, "/dir/agent", http.StatusFound)
		default:
			http.NotFound(w, r)
		}
	}))
	defer server.Close()
	s := from(t, server.URL+"/dir/")
	for name, want := range map[string]string{
		"none":    "GET none: 404",
		"endless": "longer than 100 bytes",
		"short":   "unexpected EOF",
		"round":   "more than 5 redirects",
	} {
		_, err := read(t.Context(), s, name, 100)
		require.ErrorContains(t, err, want, name)
	}
	for _, name := range []string{"agent", "moved"} {
		content, err := read(t.Context(), s, name, 100)
		require.NoError(t, err)
		require.Equal(t, "dbtofile-update/test", string(content))
	}
}

func TestNoRedirectFromHTTPSToHTTP(t *testing.T) {
	open := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") }))
	defer open.Close()
	secure := httptest.NewTLSServer(http.RedirectHandler(open.URL, http.StatusFound))
	defer secure.Close()
	up := httptest.NewServer(http.RedirectHandler(secure.URL, http.StatusFound))
	defer up.Close()
	trust := secure.Client().Transport.(*http.Transport).TLSClientConfig

	for _, where := range []string{secure.URL, up.URL} {
		s := from(t, where).(*web)
		s.client.Transport.(*http.Transport).TLSClientConfig = trust
		_, err := read(t.Context(), s, "file", 100)
		require.ErrorContains(t, err, "redirect from https to http", where)
	}
}

func TestProxyOfTheEnvironment(t *testing.T) {
	proxy := from(t, "https://example.org").(*web).client.Transport.(*http.Transport).Proxy
	require.NotNil(t, proxy)
}

// trickle is a body that brings n bytes a second until its context ends.
type trickle struct {
	ctx context.Context
	n   int
}

func (b trickle) Read(p []byte) (int, error) {
	select {
	case <-time.After(time.Second):
		return min(b.n, len(p)), nil
	case <-b.ctx.Done():
		return 0, b.ctx.Err()
	}
}

func (b trickle) Close() error { return nil }

func TestATrickleIsEnded(t *testing.T) {
	for n, want := range map[int]error{0: errStalled, 1: errStalled, 1000: errStalled, 4000: context.DeadlineExceeded} {
		synctest.Test(t, func(t *testing.T) {
			limited, stop := context.WithTimeout(t.Context(), time.Hour)
			defer stop()
			ctx, cancel := context.WithCancelCause(limited)
			body := watch(ctx, cancel, trickle{ctx, n}, 30*time.Second)
			began := time.Now()
			_, err := io.Copy(io.Discard, body)
			require.ErrorIs(t, err, want, "%d bytes a second", n)
			if n < 4000 {
				require.Equal(t, 30*time.Second, time.Since(began))
			}
			body.Close()
		})
	}
}

func TestASlowEndIsNoStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		body := watch(ctx, cancel, io.NopCloser(strings.NewReader("small")), 30*time.Second)
		content, err := io.ReadAll(body)
		require.NoError(t, err)
		require.Equal(t, "small", string(content))
		body.Close()
		require.ErrorIs(t, ctx.Err(), context.Canceled)
	})
}
