// A server of net/http with cloudflare/tableflip: the program of its documentation, with keep-alive connections that are shut down.
package main

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/cloudflare/tableflip"
)

func main() {
	text, err := os.ReadFile(os.Getenv("VERSION_FILE"))
	if err != nil {
		log.Fatal(err)
	}
	version := strings.TrimSpace(string(text))

	upgrader, err := tableflip.New(tableflip.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer upgrader.Stop()

	go func() {
		hup := make(chan os.Signal, 1)
		signal.Notify(hup, syscall.SIGHUP)
		for range hup {
			if err := upgrader.Upgrade(); err != nil {
				log.Println("upgrade failed:", err)
			}
		}
	}()

	listener, err := upgrader.Listen("tcp", "127.0.0.1:"+os.Getenv("PORT"))
	if err != nil {
		log.Fatal(err)
	}
	server := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, version)
	})}
	go func() {
		if err := server.Serve(listener); err != http.ErrServerClosed {
			log.Fatal(err)
		}
	}()
	fmt.Println(os.Getpid())
	if err := upgrader.Ready(); err != nil {
		log.Fatal(err)
	}
	<-upgrader.Exit()

	timeout, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	server.Shutdown(timeout)
}
