package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	prom "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/prometheus"
	"github.com/artifactofdevotion/devotion/poller/status"
)

// serve serves the status page and the metrics of a pipeline until stop is called.
func serve(address string, hooks *poller.Hooks, health func() poller.Status, log *slog.Logger) (stop func(), err error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("-listen: %w: choose an address of this machine and a free port above 1023, or stop what listens there", err)
	}
	log.Info("listening", "address", listener.Addr().String())
	return serveOn(listener, pages(hooks, health), log), nil
}

func serveOn(listener net.Listener, handler http.Handler, log *slog.Logger) (stop func()) {
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      10 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(listener) // until stop
	}()
	return func() {
		// An answer on its way takes no longer, and one that hangs delays no stop.
		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		defer cancel()
		_ = server.Shutdown(ctx)
		_ = server.Close()
		<-ended
	}
}

// pages are what is served. None of it changes anything or waits for the pipeline.
func pages(hooks *poller.Hooks, health func() poller.Status) http.Handler {
	page := &status.Page{Version: version()}
	page.Attach(hooks, health)
	metrics := prometheus.New()
	metrics.Version = version()
	metrics.Attach(hooks, health)
	registry := prom.NewRegistry()
	registry.MustRegister(metrics, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))

	mux := http.NewServeMux()
	mux.Handle("GET /", page) // and HEAD
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	return mux
}

// listenAddress completes the address to listen at. One without a host is on
// this machine alone.
func listenAddress(text string) (string, error) {
	full := text
	if !strings.Contains(full, ":") { // the port alone
		full = ":" + full
	}
	host, port, err := net.SplitHostPort(full)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return "", wrong("-listen is %q: want a port, such as :9464, or an address and a port, such as 0.0.0.0:9464 or [::1]:9464", text)
	}
	return net.JoinHostPort(cmp.Or(host, "127.0.0.1"), port), nil
}
