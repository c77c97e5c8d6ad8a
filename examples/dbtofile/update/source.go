package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"
)

// source is where releases come from.
type source interface {
	// open opens a file. What is read of it is not trusted, and may end early or
	// never. Its end is that of ctx.
	open(ctx context.Context, name string) (io.ReadCloser, error)
}

// newSource returns the source of a setting.
func newSource(c config) (source, error) {
	where, err := url.Parse(c.source)
	switch {
	case err == nil && (where.Scheme == "https" || where.Scheme == "http") && where.Host != "":
		return &web{base: strings.TrimSuffix(c.source, "/"), agent: c.userAgent, client: client(c.stall), stall: c.stall}, nil
	case err == nil && where.Scheme == "file" && where.Host == "":
		return directory(where.Path), nil
	case strings.Contains(c.source, "://"):
		return nil, wrong("-source: want an https or http URL, or a directory")
	}
	return directory(c.source), nil
}

// directory is a source without a network: a mounted disk, or what another
// program brings.
type directory string

func (d directory) open(_ context.Context, name string) (io.ReadCloser, error) {
	path := filepath.Join(string(d), name)
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() { // opening a named pipe would wait for ever
		return nil, fmt.Errorf("%s is no regular file", path)
	}
	return os.Open(path)
}

// web is a source that is a directory of a web server.
type web struct {
	base   string
	agent  string
	client *http.Client
	stall  time.Duration
}

// client returns one that takes proxies from the environment, follows few
// redirects, and none from https to http.
func client(wait time.Duration) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: wait}).DialContext,
			TLSHandshakeTimeout:   wait,
			ResponseHeaderTimeout: wait,
			DisableKeepAlives:     true, // three files are all
			DisableCompression:    true, // sizes are those of the files
			ForceAttemptHTTP2:     true,
		},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if len(via) >= 5 {
				return errors.New("more than 5 redirects")
			}
			if r.URL.Scheme != "https" && via[len(via)-1].URL.Scheme == "https" {
				return errors.New("redirect from https to " + r.URL.Scheme)
			}
			return nil
		},
	}
}

func (w *web) open(ctx context.Context, name string) (io.ReadCloser, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, w.base+"/"+name, nil)
	if err != nil {
		cancel(nil)
		return nil, err
	}
	request.Header.Set("User-Agent", w.agent)
	response, err := w.client.Do(request)
	if err != nil {
		cancel(nil)
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		cancel(nil)
		response.Body.Close()
		return nil, fmt.Errorf("GET %s: %s", name, response.Status)
	}
	return watch(ctx, cancel, response.Body, w.stall), nil
}

// enough is how many bytes a download brings in the time of a stall, at least.
const enough = 64 << 10

var errStalled = errors.New("the download is too slow")

// patient is a download that is ended when it brings too little: bytes that trickle
// would hold the run up as well as none at all.
type patient struct {
	io.ReadCloser
	ctx    context.Context
	cancel context.CancelCauseFunc
	stall  time.Duration
	got    atomic.Int64
}

// watch returns a body that ends when it stalls. The body must end with ctx, which
// cancel cancels.
func watch(ctx context.Context, cancel context.CancelCauseFunc, body io.ReadCloser, stall time.Duration) *patient {
	p := &patient{ReadCloser: body, ctx: ctx, cancel: cancel, stall: stall}
	time.AfterFunc(stall, p.look)
	return p
}

func (p *patient) look() {
	switch {
	case p.ctx.Err() != nil:
	case p.got.Swap(0) < enough:
		p.cancel(fmt.Errorf("%w: less than %d KiB in %v", errStalled, enough>>10, p.stall))
	default:
		time.AfterFunc(p.stall, p.look)
	}
}

func (p *patient) Read(b []byte) (int, error) {
	n, err := p.ReadCloser.Read(b)
	p.got.Add(int64(n))
	if cause := context.Cause(p.ctx); err != nil && cause != nil {
		err = cause
	}
	return n, err
}

func (p *patient) Close() error {
	p.cancel(nil)
	return p.ReadCloser.Close()
}

// read reads a small file, of limit bytes at most.
func read(ctx context.Context, s source, name string, limit int64) ([]byte, error) {
	f, err := s.open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if int64(len(content)) > limit {
		return nil, fmt.Errorf("%s is longer than %d bytes", name, limit)
	}
	return content, nil
}
